"""Scene -> USD: ``twin.usda`` and its parts, each of which also opens alone.

twin.usda                  /World: scene, camera, light, physics; references to the parts, with their poses
meshes/<key>.usdc          one rigid body with textured surface, convex collision pieces, mass and friction
meshes/support.usdc        the static slab that everything stands on
meshes/background.usdc     what is behind, textured, without collision
"""

from __future__ import annotations

import contextlib
import errno
import math
import os
import posixpath
import shutil
from collections.abc import Callable, Iterator
from dataclasses import astuple
from pathlib import Path
from typing import Any

import numpy as np

from phototwin.errors import InputError, OutputError
from phototwin.frames import T_OPENCV_USD, quat_xyzw_from_matrix
from phototwin.light import Light, ambient_irradiance
from phototwin.scene import Camera, CameraSigma, Mesh, Scene, SceneObject, Support
from phototwin.stage import schema
from phototwin.stage.mass import mass_properties
from phototwin.stage.shapes import corner_normals, few_corners, rectangle, slab

TWIN_FILE = "twin.usda"
PARTS = "meshes"
RESERVED_KEYS = ("support", "background", "Camera", "Light", "Source", "PhysicsScene")
"""Prim and file names of the twin itself."""

SURFACE_ROUGHNESS = 0.7
"""Matt, because the photo's highlights are already in the textures."""
WHITE_NITS = 1000.0
"""What a radiance of 1, the photo's white, is on the stage: the default exposure of Isaac Sim's camera shows it as white."""
HORIZONTAL_APERTURE = 20.955
"""Film width that USD cameras have by default [tenths of a unit]; only its ratio to the focal length matters."""
CLIPPING_RANGE_M = (0.01, 100.0)
DEPENETRATION_MPS = 3.0
"""How fast PhysX may push a thing out of another; its default knows no limit. Slower than about 1 and a gripper's pads sink in and lose hold."""


def author_stage(scene: Scene, folder: Path) -> Path:
    """Write the scene as USD into ``folder``; ``twin.usda`` comes last, so its presence means the rest is whole.

    Images that the scene has elsewhere are copied beside it, so the folder can be moved.

    Returns:
        The path of ``twin.usda``.

    Raises:
        InputError: The scene has two objects of one key, a key that is no prim name, or an image that does not exist.
        OutputError: The folder cannot be written.
    """
    _check_keys(scene)
    try:
        (folder / PARTS).mkdir(parents=True, exist_ok=True)
        _copy_images(scene, folder)
        for index, item in enumerate(scene.objects):
            _save(folder / PARTS / f"{item.key}.usdc", lambda s, i=item, n=index: _author_object(s, i, n + 1))
        _save(folder / PARTS / "support.usdc", lambda s: _author_support(s, scene.support))
        _save(folder / PARTS / "background.usdc", lambda s: _author_background(s, scene.background))
        _save(folder / TWIN_FILE, lambda s: _author_twin(s, scene))
    except OSError as error:
        raise OutputError(f"The twin's USD could not be written to '{folder}': {error.strerror or error}.") from error
    return folder / TWIN_FILE


def _check_keys(scene: Scene) -> None:
    from pxr import Sdf

    keys = [item.key for item in scene.objects]
    for key in keys:
        if not Sdf.Path.IsValidIdentifier(key) or key in RESERVED_KEYS or keys.count(key) > 1:
            raise InputError(
                f"The object key '{key}' cannot be used: a key is one identifier, unique in the scene, and none of "
                f"{', '.join(RESERVED_KEYS)}."
            )


def _copy_images(scene: Scene, folder: Path) -> None:
    """Make every image that the scene names present in ``folder``."""
    names = [scene.photo, scene.depth, scene.masks, scene.background_rgb, scene.background_depth, scene.owners]
    names += [mesh.texture for mesh in (scene.background, *(o.mesh for o in scene.objects)) if mesh.texture]
    for name in dict.fromkeys(names):
        source, target = scene.path(name), folder / name
        if not source.is_file():
            raise InputError(f"The scene names the image '{name}', which '{scene.folder}' does not have.")
        if not target.exists() or not target.samefile(source):
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)


def _save(file: Path, author: Callable[[Any], None]) -> None:
    """Write one stage aside, so that its relative paths hold, and rename it."""
    from pxr import Sdf, Usd, UsdGeom, UsdPhysics

    partial = file.with_name(f".{file.stem}.partial{file.suffix}")
    partial.unlink(missing_ok=True)
    with _usd_write_errors():
        stage = Usd.Stage.CreateNew(str(partial))
        UsdGeom.SetStageMetersPerUnit(stage, UsdGeom.LinearUnits.meters)
        UsdGeom.SetStageUpAxis(stage, UsdGeom.Tokens.z)
        UsdPhysics.SetStageKilogramsPerUnit(stage, UsdPhysics.MassUnits.kilograms)
        author(stage)
        stage.Save()
        del stage
    os.replace(partial, file)
    layer = Sdf.Layer.Find(str(file))
    if layer:  # somebody in this process has the older one open
        layer.Reload(force=True)


@contextlib.contextmanager
def _usd_write_errors() -> Iterator[None]:
    """Turn what USD says about a disk that refuses a file into the ``OSError`` it hides.

    Raises:
        OSError: The disk is full or otherwise refuses.
    """
    from pxr import Tf

    try:
        yield
    except Tf.ErrorException as error:
        for number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EACCES, errno.EROFS, errno.EIO):
            if os.strerror(number) in str(error):
                raise OSError(number, os.strerror(number)) from error
        raise


def _define_root(stage: Any, name: str, role: str, kind: str) -> Any:
    """The default prim of a stage."""
    from pxr import Usd, UsdGeom

    root = UsdGeom.Xform.Define(stage, f"/{name}").GetPrim()
    stage.SetDefaultPrim(root)
    Usd.ModelAPI(root).SetKind(kind)
    schema.put(root, role=role)
    return root


def _author_object(stage: Any, item: SceneObject, mask_id: int) -> None:
    """One rigid body."""
    from pxr import Gf, Sdf, UsdGeom, UsdPhysics

    root = _define_root(stage, item.key, "object", "component")
    mass = mass_properties(item)
    schema.put(root, id=mask_id, name=item.name, shape=item.shape, hollow=item.hollow)
    schema.put(root, size=Gf.Vec3d(*item.size_m.tolist()), color=Gf.Vec3d(*item.color_rgb.tolist()))
    schema.put(root, mass=item.mass_kg, massSource=mass.source, friction=item.friction, restitution=item.restitution)
    sigmas = {"sizeSigma": item.size_sigma_m, "positionSigma": item.position_sigma_m}
    schema.put(root, material=item.material, **{name: Gf.Vec3d(*value.tolist()) for name, value in sigmas.items()})
    UsdPhysics.RigidBodyAPI.Apply(root)
    # PhysX's own schema by name: its definitions come with Isaac Sim only, other engines pass over it.
    root.AddAppliedSchema("PhysxRigidBodyAPI")
    depenetration = root.CreateAttribute("physxRigidBody:maxDepenetrationVelocity", Sdf.ValueTypeNames.Float, False)
    depenetration.Set(DEPENETRATION_MPS)
    api = UsdPhysics.MassAPI.Apply(root)
    api.CreateMassAttr(item.mass_kg)
    api.CreateCenterOfMassAttr(Gf.Vec3f(*mass.center_o.tolist()))
    api.CreateDiagonalInertiaAttr(Gf.Vec3f(*mass.inertia.tolist()))
    api.CreatePrincipalAxesAttr(Gf.Quatf(*np.roll(mass.axes_quat_xyzw, 1).tolist()))
    material = _visual_material(stage, root, item.mesh, item.color_rgb)
    _visual_mesh(stage, root, item.mesh, material)
    friction = _physics_material(stage, root, item.friction, item.restitution)
    collision = UsdGeom.Xform.Define(stage, root.GetPath().AppendChild("collision")).GetPath()
    for i, piece in enumerate(item.pieces):
        mesh = _define_mesh(stage, collision.AppendChild(f"piece_{i}"), piece.points, piece.faces)
        _make_hull(mesh, friction)


def _author_support(stage: Any, support: Support) -> None:
    """The static slab: a box where the outline is a rectangle, which engines handle best, one convex hull otherwise."""
    from pxr import Gf, UsdGeom, UsdPhysics, Vt

    root = _define_root(stage, "support", "support", "component")
    outline = np.ascontiguousarray(support.polygon_w, np.float64)
    schema.put(root, polygon=Vt.Vec2dArray.FromNumpy(outline), thickness=support.thickness_m, friction=support.friction)
    friction = _physics_material(stage, root, support.friction, 0.0)
    path = root.GetPath().AppendChild("slab")
    box = rectangle(outline)
    if box is None:
        _make_hull(_define_mesh(stage, path, *slab(few_corners(outline), support.thickness_m)), friction)
        return
    center, size, yaw = box
    cube = UsdGeom.Cube.Define(stage, path)
    cube.CreateSizeAttr(1.0)
    cube.CreateExtentAttr([Gf.Vec3f(-0.5), Gf.Vec3f(0.5)])
    cube.CreatePurposeAttr(UsdGeom.Tokens.guide)
    cube.AddTranslateOp(UsdGeom.XformOp.PrecisionDouble).Set(Gf.Vec3d(*center.tolist(), -support.thickness_m / 2))
    half = yaw / 2
    cube.AddOrientOp(UsdGeom.XformOp.PrecisionDouble).Set(Gf.Quatd(math.cos(half), 0, 0, math.sin(half)))
    cube.AddScaleOp(UsdGeom.XformOp.PrecisionDouble).Set(Gf.Vec3d(*size.tolist(), support.thickness_m))
    UsdPhysics.CollisionAPI.Apply(cube.GetPrim())
    _bind(cube.GetPrim(), friction, "physics")


def _author_background(stage: Any, mesh: Mesh) -> None:
    root = _define_root(stage, "background", "background", "component")
    _visual_mesh(stage, root, mesh, _visual_material(stage, root, mesh, np.full(3, 0.5)))


def _author_twin(stage: Any, scene: Scene) -> None:
    """The stage that brings camera, light and parts together."""
    from pxr import Gf, Sdf, UsdPhysics

    root = _define_root(stage, "World", "scene", "assembly")
    schema.put(root, version=schema.STAGE_VERSION, name=scene.name)
    images = {"photo": scene.photo, "depth": scene.depth, "masks": scene.masks}
    images |= {"backgroundRgb": scene.background_rgb, "backgroundDepth": scene.background_depth}
    images |= {"owners": scene.owners}
    schema.put(root, **{name: Sdf.AssetPath(f"./{image}") for name, image in images.items()})
    schema.put(root, noteKeys=list(scene.notes), noteTexts=list(scene.notes.values()))
    physics = UsdPhysics.Scene.Define(stage, "/World/PhysicsScene")
    physics.CreateGravityDirectionAttr(Gf.Vec3f(0, 0, -1))
    physics.CreateGravityMagnitudeAttr(9.81)
    _author_light(stage, scene.light)
    _author_camera(stage, scene.camera, scene.camera_sigma)
    for name in ("support", "background"):
        stage.DefinePrim(f"/World/{name}").GetReferences().AddReference(f"./{PARTS}/{name}.usdc")
    for item in scene.objects:
        prim = stage.DefinePrim(f"/World/{item.key}")
        prim.GetReferences().AddReference(f"./{PARTS}/{item.key}.usdc")
        _author_pose(prim, item.T_world_object, item.T_world_object)


def _author_light(stage: Any, light: Light) -> None:
    """An even dome for the light from everywhere and a distant light for the source, in the photo's exposure; the exact light beside them."""
    from pxr import Gf, UsdGeom, UsdLux, Vt

    dome = UsdLux.DomeLight.Define(stage, "/World/Light")
    up = ambient_irradiance(light, np.array([0.0, 0.0, 1.0])) / math.pi
    _set_color(dome, up * WHITE_NITS)
    schema.put(
        dome.GetPrim(),
        role="light",
        harmonics=Vt.DoubleArray(light.sh.ravel().tolist()),
        direction=Gf.Vec3d(*light.direction_w.tolist()),
        irradiance=Gf.Vec3d(*light.irradiance.tolist()),
        halfAngle=light.half_angle_rad,
        distance=light.distance_m,
        center=Gf.Vec3d(*light.center_w.tolist()),
        lightNote=light.note,
    )
    source = UsdLux.DistantLight.Define(stage, "/World/Source")
    source.CreateAngleAttr(math.degrees(2 * light.half_angle_rad))
    source.CreateNormalizeAttr(True)  # the intensity is then the irradiance, whatever the angle
    _set_color(source, light.irradiance * WHITE_NITS)
    # A distant light shines along its -Z.
    turn = Gf.Rotation(Gf.Vec3d(0, 0, 1), Gf.Vec3d(*light.direction_w.tolist())).GetQuat()
    UsdGeom.Xformable(source).AddOrientOp(UsdGeom.XformOp.PrecisionDouble).Set(turn)


def _set_color(light: Any, value: np.ndarray) -> None:
    """Intensity and colour of a light from their product (3,)."""
    from pxr import Gf

    strength = max(float(value.max()), 1e-6)
    light.CreateIntensityAttr(strength)
    light.CreateColorAttr(Gf.Vec3f(*(value / strength).tolist()))


def _author_camera(stage: Any, camera: Camera, sigma: CameraSigma) -> None:
    """A USD camera with exactly these intrinsics, unequal focal lengths and an off-centre principal point included.

    The window of a USD camera at distance 1 reaches from (-aperture / 2 + offset) / focal length to (aperture / 2 + offset) /
    focal length, its y up; the photo's reaches from -cx / fx to (W - cx) / fx and, its y down, from -cy / fy to (H - cy) / fy.
    """
    from pxr import Gf, UsdGeom, Vt

    usd = UsdGeom.Camera.Define(stage, "/World/Camera")
    (fx, _, cx), (_, fy, cy), _ = camera.K_px.tolist()
    focal = HORIZONTAL_APERTURE * fx / camera.width
    usd.CreateProjectionAttr(UsdGeom.Tokens.perspective)
    usd.CreateFocalLengthAttr(focal)
    usd.CreateHorizontalApertureAttr(HORIZONTAL_APERTURE)
    usd.CreateVerticalApertureAttr(focal * camera.height / fy)
    usd.CreateHorizontalApertureOffsetAttr(focal * (camera.width / 2 - cx) / fx)
    usd.CreateVerticalApertureOffsetAttr(focal * (cy - camera.height / 2) / fy)
    usd.CreateClippingRangeAttr(Gf.Vec2f(*CLIPPING_RANGE_M))
    prim = usd.GetPrim()
    K = Vt.DoubleArray.FromNumpy(np.ascontiguousarray(camera.K_px, np.float64).ravel())
    schema.put(prim, role="camera", K=K, width=camera.width, height=camera.height, sigma=Vt.DoubleArray(astuple(sigma)))
    _author_pose(prim, camera.T_world_camera, camera.T_world_camera @ T_OPENCV_USD)


def _author_pose(prim: Any, T_world_ours: np.ndarray, T_world_prim: np.ndarray) -> None:
    """Place a prim by translate and orient, and keep the exact matrix of ours beside it."""
    from pxr import Gf, UsdGeom, Vt

    xform = UsdGeom.Xformable(prim)
    xform.AddTranslateOp(UsdGeom.XformOp.PrecisionDouble).Set(Gf.Vec3d(*T_world_prim[:3, 3].tolist()))
    x, y, z, w = quat_xyzw_from_matrix(T_world_prim[:3, :3]).tolist()
    xform.AddOrientOp(UsdGeom.XformOp.PrecisionDouble).Set(Gf.Quatd(w, x, y, z))
    schema.put(prim, pose=Vt.DoubleArray.FromNumpy(np.ascontiguousarray(T_world_ours, np.float64).ravel()))


def _define_mesh(stage: Any, path: Any, points: np.ndarray, faces: np.ndarray) -> Any:
    """A triangle mesh with extent and normals, without subdivision."""
    from pxr import UsdGeom, Vt

    mesh = UsdGeom.Mesh.Define(stage, path)
    points = np.ascontiguousarray(points, np.float32)
    mesh.CreatePointsAttr(Vt.Vec3fArray.FromNumpy(points))
    mesh.CreateFaceVertexCountsAttr(Vt.IntArray(len(faces), 3))
    mesh.CreateFaceVertexIndicesAttr(Vt.IntArray.FromNumpy(np.ascontiguousarray(faces, np.int32).ravel()))
    mesh.CreateSubdivisionSchemeAttr(UsdGeom.Tokens.none)
    mesh.CreateOrientationAttr(UsdGeom.Tokens.rightHanded)
    mesh.CreateExtentAttr(Vt.Vec3fArray.FromNumpy(np.stack([points.min(0), points.max(0)])))
    mesh.CreateNormalsAttr(Vt.Vec3fArray.FromNumpy(corner_normals(points, faces).reshape(-1, 3)))
    mesh.SetNormalsInterpolation(UsdGeom.Tokens.faceVarying)
    return mesh


def _visual_mesh(stage: Any, root: Any, mesh: Mesh, material: Any) -> None:
    """The surface that is seen."""
    from pxr import Sdf, UsdGeom, Vt

    usd = _define_mesh(stage, root.GetPath().AppendChild("visual"), mesh.points, mesh.faces)
    corners = np.ascontiguousarray(mesh.st, np.float32).reshape(-1, 2)
    pairs, indices = np.unique(corners.view(np.uint64).ravel(), return_inverse=True)  # as bits, so nothing is rounded
    primvar = UsdGeom.PrimvarsAPI(usd).CreatePrimvar(
        "st", Sdf.ValueTypeNames.TexCoord2fArray, UsdGeom.Tokens.faceVarying
    )
    primvar.Set(Vt.Vec2fArray.FromNumpy(pairs.view(np.float32).reshape(-1, 2)))
    primvar.SetIndices(Vt.IntArray.FromNumpy(indices.astype(np.int32)))
    _bind(usd.GetPrim(), material, "")


def _make_hull(mesh: Any, material: Any) -> None:
    """Turn a mesh prim into one convex collider that renderers leave out."""
    from pxr import UsdGeom, UsdPhysics

    mesh.CreatePurposeAttr(UsdGeom.Tokens.guide)
    UsdPhysics.CollisionAPI.Apply(mesh.GetPrim())
    UsdPhysics.MeshCollisionAPI.Apply(mesh.GetPrim()).CreateApproximationAttr(UsdPhysics.Tokens.convexHull)
    _bind(mesh.GetPrim(), material, "physics")


def _bind(prim: Any, material: Any, purpose: str) -> None:
    from pxr import UsdShade

    strength = UsdShade.Tokens.weakerThanDescendants
    UsdShade.MaterialBindingAPI.Apply(prim).Bind(material, strength, purpose or UsdShade.Tokens.allPurpose)


def _looks(stage: Any, root: Any, name: str) -> Any:
    from pxr import UsdGeom, UsdShade

    scope = UsdGeom.Scope.Define(stage, root.GetPath().AppendChild("Looks"))
    return UsdShade.Material.Define(stage, scope.GetPath().AppendChild(name))


def _physics_material(stage: Any, root: Any, friction: float, restitution: float) -> Any:
    from pxr import UsdPhysics

    material = _looks(stage, root, "physics")
    api = UsdPhysics.MaterialAPI.Apply(material.GetPrim())
    api.CreateStaticFrictionAttr(friction)
    api.CreateDynamicFrictionAttr(friction)
    api.CreateRestitutionAttr(restitution)
    return material


def _visual_material(stage: Any, root: Any, mesh: Mesh, color_rgb: np.ndarray) -> Any:
    """A matt surface with the mesh's texture, or with one sRGB colour where it has none."""
    from pxr import Gf, Sdf, UsdShade

    material = _looks(stage, root, "visual")
    path, types = material.GetPath(), Sdf.ValueTypeNames
    surface = UsdShade.Shader.Define(stage, path.AppendChild("surface"))
    surface.CreateIdAttr("UsdPreviewSurface")
    surface.CreateInput("roughness", types.Float).Set(SURFACE_ROUGHNESS)
    surface.CreateInput("metallic", types.Float).Set(0.0)
    diffuse = surface.CreateInput("diffuseColor", types.Color3f)
    material.CreateSurfaceOutput().ConnectToSource(surface.CreateOutput("surface", types.Token))
    if mesh.texture is None:
        diffuse.Set(
            Gf.Vec3f(*np.where(color_rgb <= 0.04045, color_rgb / 12.92, ((color_rgb + 0.055) / 1.055) ** 2.4).tolist())
        )
        return material
    reader = UsdShade.Shader.Define(stage, path.AppendChild("st"))
    reader.CreateIdAttr("UsdPrimvarReader_float2")
    reader.CreateInput("varname", types.String).Set("st")
    texture = UsdShade.Shader.Define(stage, path.AppendChild("texture"))
    texture.CreateIdAttr("UsdUVTexture")
    texture.CreateInput("file", types.Asset).Set(Sdf.AssetPath(posixpath.relpath(mesh.texture, PARTS)))
    texture.CreateInput("sourceColorSpace", types.Token).Set("sRGB")
    texture.CreateInput("wrapS", types.Token).Set("clamp")
    texture.CreateInput("wrapT", types.Token).Set("clamp")
    texture.CreateInput("st", types.Float2).ConnectToSource(reader.CreateOutput("result", types.Float2))
    diffuse.ConnectToSource(texture.CreateOutput("rgb", types.Float3))
    return material
