"""URDF files read back by the programs that read URDF: mass, inertia, extent, pieces, texture."""

import dataclasses
import xml.etree.ElementTree as ET

import numpy as np
import pytest
import trimesh
from synthetic import make_scene

from phototwin.errors import InputError, OutputError
from phototwin.frames import matrix_from_quat_xyzw
from phototwin.stage.mass import mass_properties
from phototwin.stage.urdf import export_urdf


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    made = make_scene(tmp_path_factory.mktemp("scene"))
    # Skewed on purpose: principal axes that are not the object's, a centre of mass that is not its origin.
    points = made.objects[0].mesh.points * np.float32([1.0, 2.0, 0.5]) + np.float32([0.004, 0.0, 0.001])
    points[:, 0] += 0.3 * points[:, 1]
    piece = dataclasses.replace(made.objects[0].pieces[0], points=points)
    skewed = dataclasses.replace(made.objects[0].mesh, points=points)
    first = dataclasses.replace(made.objects[0], mesh=skewed, pieces=(piece,))
    return dataclasses.replace(made, objects=(first, *made.objects[1:]))


@pytest.fixture(scope="module")
def files(scene, tmp_path_factory):
    return export_urdf(scene, tmp_path_factory.mktemp("urdf"))


def tensor(item):
    mass = mass_properties(item)
    R = matrix_from_quat_xyzw(mass.axes_quat_xyzw)
    return R @ np.diag(mass.inertia) @ R.T


def test_there_is_one_file_per_object_in_order(scene, files):
    assert [file.stem for file in files] == [item.key for item in scene.objects]
    assert not list(files[0].parent.glob(".*"))


def test_pinocchio_reads_the_same_body(scene, files):
    import pinocchio

    for item, file in zip(scene.objects, files, strict=True):
        model = pinocchio.buildModelFromUrdf(str(file), pinocchio.JointModelFreeFlyer())
        body = model.inertias[1]
        assert body.mass == pytest.approx(item.mass_kg)
        assert np.allclose(body.lever, mass_properties(item).center_o, atol=1e-9)
        assert np.allclose(body.inertia, tensor(item), rtol=1e-6, atol=1e-12)
        shapes = {}
        for kind in (pinocchio.GeometryType.VISUAL, pinocchio.GeometryType.COLLISION):
            shapes[kind] = pinocchio.buildGeomFromUrdf(model, str(file), kind, [str(file.parent)])
            low, high = _bounds(shapes[kind].geometryObjects)
            assert np.allclose(low, item.mesh.points.min(0), atol=1e-3)
            assert np.allclose(high, item.mesh.points.max(0), atol=1e-3)
        assert len(shapes[pinocchio.GeometryType.COLLISION].geometryObjects) == len(item.pieces)


def _bounds(objects):
    for shape in objects:
        shape.geometry.computeLocalAABB()
        assert np.allclose(shape.placement.homogeneous, np.eye(4))
    boxes = [(shape.geometry.aabb_local.min_, shape.geometry.aabb_local.max_) for shape in objects]
    return np.min([low for low, _ in boxes], 0), np.max([high for _, high in boxes], 0)


def test_mujoco_reads_the_same_body(scene, files):
    import mujoco

    for item, file in zip(scene.objects, files, strict=True):
        spec = mujoco.MjSpec.from_file(str(file))
        spec.compiler.fusestatic = False
        model = spec.compile()
        body = model.body(item.key)
        assert body.mass[0] == pytest.approx(item.mass_kg)
        assert np.allclose(sorted(body.inertia), sorted(mass_properties(item).inertia), rtol=1e-4)
        assert np.allclose(body.ipos, mass_properties(item).center_o, atol=1e-6)
        assert model.ngeom >= len(item.pieces)


def test_isaac_lab_s_converter_reads_the_same_body(scene, files, tmp_path):
    from pxr import Usd, UsdGeom, UsdPhysics
    from urdf_usd_converter import Converter

    for item, file in zip(scene.objects[:1], files[:1], strict=True):
        made = Converter().convert(str(file), str(tmp_path / item.key))
        stage = Usd.Stage.Open(made.path)
        bodies = [prim for prim in stage.Traverse() if prim.HasAPI(UsdPhysics.RigidBodyAPI)]
        assert len(bodies) == 1
        mass = UsdPhysics.MassAPI(bodies[0])
        assert mass.GetMassAttr().Get() == pytest.approx(item.mass_kg)
        assert np.allclose(
            sorted(mass.GetDiagonalInertiaAttr().Get()), sorted(mass_properties(item).inertia), rtol=1e-4
        )
        cache = UsdGeom.BBoxCache(Usd.TimeCode.Default(), [UsdGeom.Tokens.default_, UsdGeom.Tokens.render])
        box = cache.ComputeWorldBound(bodies[0]).ComputeAlignedRange()
        assert np.allclose(box.GetMin(), item.mesh.points.min(0), atol=1e-5)
        assert np.allclose(box.GetMax(), item.mesh.points.max(0), atol=1e-5)


def test_surface_texture_and_pieces_are_the_scene_s(scene, files):
    """Trimesh reads the OBJ files with their material."""
    for item, file in zip(scene.objects, files, strict=True):
        root = ET.parse(file).getroot()
        seen = trimesh.load(file.parent / root.find("link/visual/geometry/mesh").get("filename"), process=False)
        assert seen.volume == pytest.approx(trimesh.Trimesh(item.mesh.points, item.mesh.faces).volume, rel=1e-5)
        assert seen.visual.material.image.size == (48, 32)
        st = np.unique(np.round(seen.visual.uv, 4), axis=0)
        assert np.allclose(st, np.unique(np.round(item.mesh.st.reshape(-1, 2), 4), axis=0), atol=2e-4)
        names = [mesh.get("filename") for mesh in root.findall("link/collision/geometry/mesh")]
        for name, piece in zip(names, item.pieces, strict=True):
            assert np.allclose(
                trimesh.load(file.parent / name, process=False).bounds[0], piece.points.min(0), atol=1e-7
            )
        assert float(root.find("gazebo/mu1").text) == item.friction


def test_what_cannot_be_written_or_read_is_said(scene, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match="could not be written"):
        export_urdf(scene, tmp_path / "file" / "urdf")
    gone = dataclasses.replace(scene.objects[0].mesh, texture="textures/gone.png")
    broken = dataclasses.replace(scene, objects=(dataclasses.replace(scene.objects[0], mesh=gone),))
    with pytest.raises(InputError, match=r"textures/gone\.png"):
        export_urdf(broken, tmp_path)
