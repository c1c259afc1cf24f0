"""USD -> Scene: gives back what ``author_stage`` wrote, and follows what was moved since."""

from __future__ import annotations

import posixpath
from pathlib import Path
from typing import Any

import numpy as np

from phototwin.errors import InputError
from phototwin.frames import T_OPENCV_USD
from phototwin.light import Light
from phototwin.scene import Camera, CameraSigma, ConvexPiece, Mesh, Scene, SceneObject, Support
from phototwin.stage import schema

POSE_TOLERANCE = 1e-9
"""A pose is written in double precision; a larger difference means that somebody moved the prim."""


def read_stage(path: Path) -> Scene:
    """The scene of a ``twin.usda`` (or of the folder that has one).

    Every value is bit by bit the one authored, except that a prim which was moved in an editor has its new pose.

    Raises:
        InputError: There is no such stage, or it is not a twin of this version.
    """
    from pxr import Tf, Usd

    path = path / "twin.usda" if path.is_dir() else path
    if not path.is_file():
        raise InputError(f"'{path}' does not exist: make a twin with scripts/reconstruct.py.")
    try:
        stage = Usd.Stage.Open(str(path))
    except Tf.ErrorException as error:
        raise InputError(f"'{path}' cannot be opened as USD: make the twin again.") from error
    prims = schema.prims_by_role(stage)
    for role in ("scene", "camera", "light", "support", "background"):
        if len(prims[role]) != 1:
            raise InputError(
                f"'{path}' is not a twin: it has {len(prims[role])} prims of the role '{role}' where one is expected."
            )
    root = prims["scene"][0]
    if schema.get(root, "version") != schema.STAGE_VERSION:
        raise InputError(
            f"'{path}' has version {schema.get(root, 'version')}, this program reads {schema.STAGE_VERSION}: make the twin again."
        )
    objects = sorted(prims["object"], key=lambda prim: schema.get(prim, "id"))
    notes = dict(zip(schema.get(root, "noteKeys"), schema.get(root, "noteTexts"), strict=True))
    return Scene(
        name=schema.get(root, "name"),
        camera=_camera(prims["camera"][0]),
        objects=tuple(_object(prim) for prim in objects),
        support=_support(prims["support"][0]),
        background=_mesh(_child(prims["background"][0], "visual")),
        photo=_image(root, "photo"),
        depth=_image(root, "depth"),
        masks=_image(root, "masks"),
        background_rgb=_image(root, "backgroundRgb"),
        background_depth=_image(root, "backgroundDepth"),
        owners=_image(root, "owners"),
        light=_light(prims["light"][0]),
        camera_sigma=CameraSigma(*schema.get(prims["camera"][0], "sigma")),
        notes=notes,
        folder=path.parent,
    )


def _image(root: Any, name: str) -> str:
    return schema.get(root, name).path.removeprefix("./")


def _doubles(prim: Any, name: str, shape: tuple[int, ...]) -> np.ndarray:
    return np.array(schema.get(prim, name), dtype=np.float64).reshape(shape)


def _child(prim: Any, name: str) -> Any:
    child = prim.GetChild(name)
    if not child:
        raise InputError(f"The prim {prim.GetPath()} lacks its part '{name}': make the twin again.")
    return child


def _pose(prim: Any, T_prim_ours: np.ndarray) -> np.ndarray:
    """T_world_ours: the exact matrix kept beside the xform ops as long as they still say the same."""
    from pxr import UsdGeom

    moved = np.array(UsdGeom.XformCache().GetLocalToWorldTransform(prim)).T @ T_prim_ours  # Gf matrices act on rows
    kept = _doubles(prim, "pose", (4, 4))
    return kept if np.abs(moved - kept).max() < POSE_TOLERANCE else moved


def _camera(prim: Any) -> Camera:
    K_px = _doubles(prim, "K", (3, 3))
    return Camera(K_px, schema.get(prim, "width"), schema.get(prim, "height"), _pose(prim, T_OPENCV_USD))


def _light(prim: Any) -> Light:
    return Light(
        _doubles(prim, "harmonics", (9, 3)),
        _doubles(prim, "direction", (3,)),
        _doubles(prim, "irradiance", (3,)),
        schema.get(prim, "halfAngle"),
        schema.get(prim, "distance"),
        _doubles(prim, "center", (3,)),
        schema.get(prim, "lightNote"),
    )


def _support(prim: Any) -> Support:
    polygon = np.array(schema.get(prim, "polygon"), dtype=np.float64).reshape(-1, 2)
    return Support(polygon, schema.get(prim, "thickness"), schema.get(prim, "friction"))


def _object(prim: Any) -> SceneObject:
    pieces = [_triangles(piece) for piece in _child(prim, "collision").GetChildren()]
    return SceneObject(
        name=schema.get(prim, "name"),
        key=prim.GetName(),
        shape=schema.get(prim, "shape"),
        hollow=schema.get(prim, "hollow"),
        T_world_object=_pose(prim, np.eye(4)),
        size_m=_doubles(prim, "size", (3,)),
        color_rgb=_doubles(prim, "color", (3,)),
        mesh=_mesh(_child(prim, "visual")),
        pieces=tuple(ConvexPiece(points, faces) for points, faces in pieces),
        mass_kg=schema.get(prim, "mass"),
        friction=schema.get(prim, "friction"),
        restitution=schema.get(prim, "restitution"),
        material=schema.get(prim, "material"),
        size_sigma_m=_doubles(prim, "sizeSigma", (3,)),
        position_sigma_m=_doubles(prim, "positionSigma", (3,)),
    )


def _triangles(prim: Any) -> tuple[np.ndarray, np.ndarray]:
    from pxr import UsdGeom

    mesh = UsdGeom.Mesh(prim)
    points = np.array(mesh.GetPointsAttr().Get(), dtype=np.float32).reshape(-1, 3)
    return points, np.array(mesh.GetFaceVertexIndicesAttr().Get(), dtype=np.int32).reshape(-1, 3)


def _mesh(prim: Any) -> Mesh:
    from pxr import UsdGeom, UsdShade

    points, faces = _triangles(prim)
    corners = UsdGeom.PrimvarsAPI(prim).GetPrimvar("st").ComputeFlattened()
    st = np.array(corners, dtype=np.float32).reshape(-1, 3, 2)
    material: Any = UsdShade.MaterialBindingAPI(prim).ComputeBoundMaterial()
    shader = material[0].GetPrim().GetChild("texture")
    if not shader:
        return Mesh(points, faces, st, None)
    file = UsdShade.Shader(shader).GetInput("file").Get().path
    return Mesh(points, faces, st, posixpath.normpath(posixpath.join("meshes", file)))
