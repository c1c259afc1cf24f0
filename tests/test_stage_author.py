import dataclasses
import resource
import shutil
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
from synthetic import make_cube, make_scene

from phototwin.errors import InputError, OutputError
from phototwin.frames import invert, matrix_from_quat_xyzw, project, transform
from phototwin.scene import Support
from phototwin.stage import schema
from phototwin.stage.author import author_stage
from phototwin.stage.mass import mass_properties
from phototwin.stage.shapes import corner_normals, few_corners, rectangle, slab
from phototwin.stage.validate import validate_stage

PENTAGON = np.array([[0.15, -0.30], [0.80, -0.35], [0.90, 0.0], [0.80, 0.35], [0.20, 0.30]])


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    return make_scene(tmp_path_factory.mktemp("twin"))


@pytest.fixture(scope="module")
def twin(scene):
    return author_stage(scene, scene.folder)


def open_stage(path):
    from pxr import Usd

    return Usd.Stage.Open(str(path))


def test_pxr_is_the_one_of_usd_exchange():
    assert metadata.version("usd-exchange")
    with pytest.raises(metadata.PackageNotFoundError):
        metadata.version("usd-core")


def test_validator_passes_the_twin_and_every_part(twin):
    files = [twin, *sorted((twin.parent / "meshes").glob("*.usdc"))]
    assert len(files) == 6
    assert {file.name: validate_stage(file) for file in files} == {file.name: [] for file in files}


def test_validator_does_find_faults(twin, tmp_path):
    text = twin.read_text().replace('defaultPrim = "World"', "").replace("./meshes/red_can", "./meshes/blue_can")
    (tmp_path / "bad.usda").write_text(text)
    assert validate_stage(tmp_path / "bad.usda")


def test_stage_metadata(twin):
    from pxr import UsdGeom, UsdPhysics

    for file in (twin, twin.parent / "meshes/red_can.usdc"):
        stage = open_stage(file)
        assert UsdGeom.GetStageMetersPerUnit(stage) == 1.0
        assert UsdPhysics.GetStageKilogramsPerUnit(stage) == 1.0
        assert UsdGeom.GetStageUpAxis(stage) == "Z"
        assert stage.GetDefaultPrim().GetPath() == ("/World" if file == twin else "/red_can")


def test_rigid_bodies_have_mass_friction_and_hidden_convex_pieces(scene, twin):
    from pxr import UsdGeom, UsdPhysics, UsdShade

    stage = open_stage(twin)
    for item in scene.objects:
        prim = stage.GetPrimAtPath(f"/World/{item.key}")
        assert prim.HasAPI(UsdPhysics.RigidBodyAPI)
        mass = UsdPhysics.MassAPI(prim)
        assert mass.GetMassAttr().Get() == np.float32(item.mass_kg)
        assert min(mass.GetDiagonalInertiaAttr().Get()) > 0
        pieces = prim.GetChild("collision").GetChildren()
        assert len(pieces) == len(item.pieces)
        for piece in pieces:
            assert UsdPhysics.MeshCollisionAPI(piece).GetApproximationAttr().Get() == "convexHull"
            assert UsdGeom.Imageable(piece).GetPurposeAttr().Get() == "guide"
            material = UsdShade.MaterialBindingAPI(piece).ComputeBoundMaterial("physics")[0]
            friction = UsdPhysics.MaterialAPI(material.GetPrim())
            assert friction.GetStaticFrictionAttr().Get() == np.float32(item.friction)
            assert friction.GetDynamicFrictionAttr().Get() == np.float32(item.friction)
            assert friction.GetRestitutionAttr().Get() == np.float32(item.restitution)
        assert not prim.GetChild("visual").HasAPI(UsdPhysics.CollisionAPI)


def test_support_and_background_do_not_move(twin):
    from pxr import UsdPhysics

    stage = open_stage(twin)
    colliders = {p.GetPath().pathString for p in stage.Traverse() if p.HasAPI(UsdPhysics.CollisionAPI)}
    assert "/World/support/slab" in colliders
    assert not any("background" in path for path in colliders)
    bodies = {p.GetName() for p in stage.Traverse() if p.HasAPI(UsdPhysics.RigidBodyAPI)}
    assert bodies == {"green_cube", "white_bowl", "red_can"}


def test_materials_are_textured_by_relative_paths(scene, twin):
    from pxr import UsdGeom, UsdShade

    for item in scene.objects:
        stage = open_stage(twin.parent / f"meshes/{item.key}.usdc")
        visual = stage.GetPrimAtPath(f"/{item.key}/visual")
        material = UsdShade.MaterialBindingAPI(visual).ComputeBoundMaterial()[0]
        surface = material.ComputeSurfaceSource()[0]
        texture = UsdShade.Shader(surface.GetInput("diffuseColor").GetConnectedSource()[0].GetPrim())
        file = texture.GetInput("file").Get()
        assert file.path == f"../textures/{item.key}.png"
        assert Path(file.resolvedPath).samefile(scene.path(item.mesh.texture))
        st = UsdGeom.PrimvarsAPI(visual).GetPrimvar("st")
        assert st.GetInterpolation() == "faceVarying"
        assert np.array_equal(np.array(st.ComputeFlattened()), item.mesh.st.reshape(-1, 2))


def test_untextured_objects_show_their_colour(scene, tmp_path):
    from pxr import UsdShade

    item = scene.objects[0]
    plain = dataclasses.replace(
        item, mesh=dataclasses.replace(item.mesh, texture=None), color_rgb=np.array([0.5, 1, 0])
    )
    author_stage(dataclasses.replace(scene, objects=(plain,)), tmp_path)
    stage = open_stage(tmp_path / "meshes/green_cube.usdc")
    surface = UsdShade.Shader(stage.GetPrimAtPath("/green_cube/Looks/visual/surface"))
    assert np.allclose(surface.GetInput("diffuseColor").Get(), (0.21404, 1, 0), atol=1e-4)
    assert validate_stage(tmp_path / "meshes/green_cube.usdc") == []


def test_usd_camera_projects_like_K(scene, twin):
    """World points through the frustum of the USD camera land within 0.01 px of where K puts them."""
    from pxr import Gf, UsdGeom

    camera = scene.camera
    stage = open_stage(twin)
    gf = UsdGeom.Camera(stage.GetPrimAtPath("/World/Camera")).GetCamera()
    matrix = gf.frustum.ComputeViewMatrix() * gf.frustum.ComputeProjectionMatrix()
    points_w = np.random.default_rng(0).uniform((0.2, -0.3, 0.0), (0.9, 0.3, 0.3), (200, 3))
    expected = project(camera.K_px, transform(invert(camera.T_world_camera), points_w))
    ndc = np.array([list(matrix.Transform(Gf.Vec3d(*p.tolist()))) for p in points_w])
    pixels = np.stack([(ndc[:, 0] + 1) / 2 * camera.width, (1 - ndc[:, 1]) / 2 * camera.height], -1)
    assert np.abs(pixels - expected).max() < 0.01


def test_folder_can_be_moved(twin, tmp_path):
    from pxr import UsdUtils

    moved = tmp_path / "elsewhere"
    shutil.copytree(twin.parent, moved)
    layers, assets, unresolved = UsdUtils.ComputeAllDependencies(str(moved / "twin.usda"))
    assert not unresolved
    assert len(layers) == 6
    assert (
        len(assets) == 6 + 3
    )  # the scene's images, of which background.png is a texture too, and the objects' textures
    used = [Path(str(p)).resolve() for p in (*(layer.realPath for layer in layers), *assets)]
    assert all(path.is_relative_to(moved.resolve()) for path in used)
    assert str(twin.parent).encode() not in b"".join(p.read_bytes() for p in moved.rglob("*.usd*"))


def test_images_follow_into_another_folder(scene, tmp_path):
    author_stage(scene, tmp_path / "copy")
    for name in ("photo.png", "depth.png", "masks.png", "background.png", "textures/red_can.png"):
        assert (tmp_path / "copy" / name).read_bytes() == scene.path(name).read_bytes()
    assert validate_stage(tmp_path / "copy/twin.usda") == []


def test_only_attributes_of_the_table_are_used(twin):
    used = {}
    stage = open_stage(twin)
    for prim in stage.Traverse():
        for attribute in prim.GetAttributes():
            if attribute.GetNamespace() == schema.NAMESPACE:
                used[attribute.GetBaseName()] = str(attribute.GetTypeName())
    assert used == {name: kind for name, (kind, _) in schema.ATTRIBUTES.items()}


def test_roles_say_what_prims_are(twin):
    stage = open_stage(twin)
    prims = schema.prims_by_role(stage)
    assert {role: [p.GetName() for p in found] for role, found in prims.items()} == {
        "scene": ["World"],
        "camera": ["Camera"],
        "light": ["Light"],
        "support": ["support"],
        "background": ["background"],
        "object": ["green_cube", "white_bowl", "red_can"],
    }


def test_newton_loads_the_twin(scene, twin):
    import newton

    builder = newton.ModelBuilder()
    builder.add_usd(str(twin))
    assert builder.body_count == len(scene.objects)
    assert np.allclose(builder.body_mass, [item.mass_kg for item in scene.objects])
    pieces = sum(len(item.pieces) for item in scene.objects)
    assert builder.shape_count == pieces + len(scene.objects) + 2  # their surfaces, support and background
    assert np.allclose(np.array(builder.body_q)[:, :3], [item.T_world_object[:3, 3] for item in scene.objects])
    for inertia, item in zip(builder.body_inertia, scene.objects, strict=True):
        mass = mass_properties(item)
        R = matrix_from_quat_xyzw(mass.axes_quat_xyzw)
        assert np.allclose(np.array(inertia).reshape(3, 3), R @ np.diag(mass.inertia) @ R.T, rtol=1e-4, atol=1e-10)


def test_authoring_again_replaces_what_is_open(scene, tmp_path):
    stage = open_stage(author_stage(scene, tmp_path))
    heavier = dataclasses.replace(scene.objects[0], mass_kg=1.5)
    author_stage(dataclasses.replace(scene, objects=(heavier, *scene.objects[1:])), tmp_path)
    assert schema.get(stage.GetPrimAtPath("/World/green_cube"), "mass") == 1.5
    assert not list(tmp_path.rglob(".*partial*"))


@pytest.mark.parametrize("key", ["two words", "1st", "", "support", "Camera", "white_bowl"])
def test_unusable_keys_are_refused(scene, tmp_path, key):
    bad = dataclasses.replace(scene.objects[0], key=key)
    with pytest.raises(InputError, match="object key"):
        author_stage(dataclasses.replace(scene, objects=(bad, *scene.objects[1:])), tmp_path)
    assert not (tmp_path / "twin.usda").exists()


def test_missing_image_is_refused(scene, tmp_path):
    with pytest.raises(InputError, match=r"no_such\.png"):
        author_stage(dataclasses.replace(scene, photo="no_such.png"), tmp_path)
    assert not (tmp_path / "twin.usda").exists()


def test_full_disk_is_one_sentence(scene, tmp_path):
    shutil.copytree(scene.folder, tmp_path / "twin", ignore=shutil.ignore_patterns("meshes", "*.usd*"))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, limits[1]))  # the nearest to a full disk that needs no rights
    try:
        with pytest.raises(OutputError, match="File too large") as info:
            author_stage(dataclasses.replace(scene, folder=tmp_path / "twin"), tmp_path / "twin")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "\n" not in str(info.value) and not (tmp_path / "twin/twin.usda").exists()


def test_folder_that_cannot_be_made_is_refused(scene, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match="could not be written"):
        author_stage(scene, tmp_path / "file" / "twin")


@pytest.mark.parametrize("polygon", [PENTAGON, np.array([[0.5, -0.2], [0.8, 0.1], [0.5, 0.4], [0.2, 0.1]])])
def test_support_collider_fills_the_outline(scene, tmp_path, polygon):
    from pxr import UsdGeom

    author_stage(dataclasses.replace(scene, support=Support(polygon, 0.03)), tmp_path)
    assert validate_stage(tmp_path / "twin.usda") == []
    stage = open_stage(tmp_path / "meshes/support.usdc")
    slab_prim = stage.GetPrimAtPath("/support/slab")
    assert slab_prim.GetTypeName() == ("Cube" if len(polygon) == 4 else "Mesh")
    box = UsdGeom.BBoxCache(0, ["default", "guide"]).ComputeWorldBound(slab_prim).ComputeAlignedRange()
    assert np.allclose(list(box.GetMin()), (*polygon.min(0), -0.03), atol=1e-6)
    assert np.allclose(list(box.GetMax()), (*polygon.max(0), 0), atol=1e-6)


def test_mass_properties_of_a_box_are_the_closed_form():
    item = dataclasses.replace(make_cube(0.1), mass_kg=3.0)
    stretched = item.mesh.points * np.float32([1, 2, 4])
    mass = mass_properties(dataclasses.replace(item, mesh=dataclasses.replace(item.mesh, points=stretched)))
    a, b, c = 0.1, 0.2, 0.4
    expected = sorted(3.0 / 12 * np.array([b * b + c * c, a * a + c * c, a * a + b * b]))
    assert mass.source == "mesh"
    assert np.allclose(mass.inertia, expected, rtol=1e-5)
    assert np.abs(mass.center_o).max() < 1e-8
    R = matrix_from_quat_xyzw(mass.axes_quat_xyzw)
    assert np.allclose(np.diag(R @ np.diag(mass.inertia) @ R.T), expected[::-1], rtol=1e-5)


def test_mass_of_an_open_surface_comes_from_the_pieces():
    item = make_cube()
    holed = dataclasses.replace(item, mesh=dataclasses.replace(item.mesh, faces=item.mesh.faces[:-1]))
    mass = mass_properties(holed)
    assert mass.source == "pieces"
    assert np.allclose(mass.inertia, mass_properties(item).inertia, rtol=1e-6)
    with pytest.raises(InputError, match="no volume"):
        mass_properties(dataclasses.replace(holed, pieces=()))
    with pytest.raises(InputError, match="positive"):
        mass_properties(dataclasses.replace(item, mass_kg=0.0))


def test_normals_are_sharp_on_boxes_and_smooth_on_spheres():
    import trimesh

    cube = make_cube().mesh
    normals = corner_normals(cube.points, cube.faces)
    assert np.allclose(np.abs(normals).max(-1), 1)
    ball = trimesh.creation.icosphere(3, 1.0)
    normals = corner_normals(np.asarray(ball.vertices, np.float32), np.asarray(ball.faces))
    assert np.einsum("fki,fki->fk", normals, ball.triangles).min() > 0.999


def test_normals_of_seams_and_of_faces_without_area():
    points = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [1, 0, 0], [1, 1, 0.1], [0, 1, 0]], np.float32)
    normals = corner_normals(points, np.array([[0, 1, 2], [3, 4, 5], [0, 0, 1]]))
    assert np.allclose(normals[0, 1], normals[1, 0])
    assert np.allclose(np.linalg.norm(normals, axis=-1), 1)


def test_few_corners_stay_inside_and_keep_the_area():
    def area(p):
        return 0.5 * np.sum(p[:, 0] * np.roll(p[:, 1], -1) - p[:, 1] * np.roll(p[:, 0], -1))

    angle = np.linspace(0, 2 * np.pi, 100, endpoint=False)
    circle = np.stack([np.cos(angle), np.sin(angle)], -1)
    few = few_corners(circle)
    assert len(few) == 32
    assert 0.98 * area(circle) < area(few) < area(circle)
    assert few_corners(PENTAGON) is PENTAGON


def test_slab_is_closed_and_outward():
    import trimesh

    mesh = trimesh.Trimesh(*slab(PENTAGON, 0.05))
    assert mesh.is_volume
    x, y = PENTAGON.T
    assert mesh.volume == pytest.approx(0.05 * 0.5 * np.sum(x * np.roll(y, -1) - y * np.roll(x, -1)), rel=1e-5)
    assert rectangle(PENTAGON) is None
    assert rectangle(PENTAGON[:4]) is None


def test_the_lights_of_the_stage_shine_as_the_photo_s(scene, twin):
    from pxr import Gf, UsdGeom, UsdLux

    stage = open_stage(twin)
    source = UsdLux.DistantLight(stage.GetPrimAtPath("/World/Source"))
    to_world = UsdGeom.Xformable(source).ComputeLocalToWorldTransform(0)
    shines = np.array(to_world.TransformDir(Gf.Vec3d(0, 0, -1)))
    np.testing.assert_allclose(shines, -scene.light.direction_w, atol=1e-6)
    product = source.GetIntensityAttr().Get() * np.array(source.GetColorAttr().Get())
    np.testing.assert_allclose(product, scene.light.irradiance * 1000.0, rtol=1e-5)
    assert source.GetNormalizeAttr().Get()
    dome = UsdLux.DomeLight(stage.GetPrimAtPath("/World/Light"))
    assert dome.GetIntensityAttr().Get() > 0
