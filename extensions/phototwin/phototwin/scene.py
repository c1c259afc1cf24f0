"""Photo -> Maps -> Scene: the frozen values that every room hands to the next.

``Photo`` is what the user gave, ``Maps`` what perception saw in it, ``Scene`` the metric twin. A ``Scene`` is saved as a
folder: ``scene.json`` for everything small, ``meshes/<key>.npz`` for arrays (float32 and int32, so a round trip is exact),
and images beside it, named by paths relative to the folder.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np

from phototwin.errors import InputError
from phototwin.light import Light, light_from_json, light_to_json, plain_light

SCENE_VERSION = 3
SENSOR_SCALE_SIGMA = 0.003
"""Share by which a calibrated depth sensor is off as a whole at tabletop distance."""
OBJECT_SHAPES = ("box", "cylinder", "sphere", "revolution", "extrusion", "mesh")
OBJECT_ARRAYS = ("T_world_object", "size_m", "color_rgb", "size_sigma_m", "position_sigma_m")
OBJECT_VALUES = ("name", "key", "shape", "hollow", "mass_kg", "friction", "restitution", "material")


@dataclass(frozen=True, eq=False)
class Camera:
    """A pinhole camera: OpenCV axes, pixel centres at +0.5.

    Attributes:
        K_px: Intrinsics, (3, 3) float64 [px].
        width: Image width [px].
        height: Image height [px].
        T_world_camera: Camera pose, (4, 4) float64 [m].
    """

    K_px: np.ndarray
    width: int
    height: int
    T_world_camera: np.ndarray


@dataclass(frozen=True)
class CameraSigma:
    """Standard deviations of what is known of a camera; independent, normal, 0 where a value is exact.

    Attributes:
        focal: Of the focal length, as a share of it.
        pitch_rad: Of the tilt below the horizontal [rad].
        roll_rad: Of the roll about the optical axis [rad].
        scale: Of the one factor that all lengths share (camera height, depth, sizes), as a share of it.
        depth_m: Of one depth reading at 1 m, growing with the square of depth [m]; 0 without depth.
    """

    focal: float = 0.0
    pitch_rad: float = 0.0
    roll_rad: float = 0.0
    scale: float = 0.0
    depth_m: float = 0.0


@dataclass(frozen=True, eq=False)
class ObjectHint:
    """Where an object is in the photo, and what it is called. At least one of box, point and mask is given.

    Attributes:
        name: What people call it, or None.
        box_px: x_min, y_min, x_max, y_max, (4,) float64 [px], or None.
        point_px: x, y, (2,) float64 [px], or None.
        mask: (H, W) bool, or None.
    """

    name: str | None = None
    box_px: np.ndarray | None = None
    point_px: np.ndarray | None = None
    mask: np.ndarray | None = None


@dataclass(frozen=True, eq=False)
class Photo:
    """One photo and whatever came with it.

    Attributes:
        rgb: (H, W, 3) uint8, upright (EXIF orientation applied).
        depth_m: (H, W) float32 along the optical axis, 0 where there is no reading [m], or None.
        K_px: (3, 3) float64 [px], or None when nothing states it.
        K_source: Where K comes from ("camera file", "exif"), or None.
        T_world_camera: (4, 4) float64 with the support at world z = 0 [m], or None.
        hints: What the user said about objects.
        depth_source: Where the depth comes from ("depth file", or the model that estimated it).
        depth_scale_sigma: Standard deviation of the one factor that all of the depth may be off by: small for a sensor, large for an estimate.
        name: Short name of the scene, fit for a folder.
        note: What loading changed ("reduced from ..."), one sentence for the report, or empty.
    """

    rgb: np.ndarray
    depth_m: np.ndarray | None = None
    K_px: np.ndarray | None = None
    K_source: str | None = None
    T_world_camera: np.ndarray | None = None
    hints: tuple[ObjectHint, ...] = ()
    depth_source: str = "depth file"
    depth_scale_sigma: float = SENSOR_SCALE_SIGMA
    name: str = "photo"
    note: str = ""


@dataclass(frozen=True, eq=False)
class Maps:
    """What perception saw. World: the support surface is z = 0, Z up; unless a pose was given, the origin is under the camera and +X points the way it looks.

    Attributes:
        rgb: (H, W, 3) uint8.
        K_px: (3, 3) float64 [px].
        T_world_camera: (4, 4) float64 [m].
        depth_m: Measured depth (H, W) float32, 0 = no reading [m]; None when the photo came without depth.
        support_mask: (H, W) bool, the pixels that show the support surface.
        masks: (N, H, W) bool, one per object, disjoint.
        names: N names given by the user, None where we must name it.
        metric: False where lengths are known only up to one factor, which an anchor or a prior must give.
        sigma: How sure the camera is.
        notes: How each thing was found, for the report: keys "intrinsics", "gravity", "scale", "segmentation" -> one sentence each.
    """

    rgb: np.ndarray
    K_px: np.ndarray
    T_world_camera: np.ndarray
    depth_m: np.ndarray | None
    support_mask: np.ndarray
    masks: np.ndarray
    names: tuple[str | None, ...]
    metric: bool = True
    sigma: CameraSigma = CameraSigma()
    notes: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Mesh:
    """A triangle mesh with one texture.

    Attributes:
        points: (V, 3) float32 in the frame of its owner [m].
        faces: (F, 3) int32, counter-clockwise seen from outside.
        st: (F, 3, 2) float32 texture coordinates per face corner, (0, 0) at the lower left of the image.
        texture: Image path relative to the scene folder, or None for plain grey.
    """

    points: np.ndarray
    faces: np.ndarray
    st: np.ndarray
    texture: str | None = None


@dataclass(frozen=True, eq=False)
class GivenMesh:
    """A mesh that a file or a model brings for one object, in an unknown frame and of an unknown size.

    Attributes:
        points: (V, 3) float64, any frame and unit.
        faces: (F, 3) int32.
        source: Where it comes from, for the report.
        colors_rgb: Colour per vertex (V, 3) uint8 sRGB, or None.
    """

    points: np.ndarray
    faces: np.ndarray
    source: str
    colors_rgb: np.ndarray | None = None


@dataclass(frozen=True, eq=False)
class ConvexPiece:
    """One convex collision piece: points (V, 3) float32 in the object frame [m], faces (F, 3) int32."""

    points: np.ndarray
    faces: np.ndarray


@dataclass(frozen=True, eq=False)
class SceneObject:
    """A movable thing. Its frame: Z up as it stands in the photo, origin at the centre of its bounding box, +X along its longer horizontal side.

    Attributes:
        name: What people call it ("green cube"); unique in the scene.
        key: The name as an identifier ("green_cube"): prim name, file name, dataset key.
        shape: One of ``OBJECT_SHAPES``.
        hollow: True for vessels that things can be put into.
        T_world_object: Pose in the photo, (4, 4) float64 [m].
        size_m: Extent of the bounding box along the object axes, (3,) float64 [m].
        color_rgb: Typical colour, (3,) float64 sRGB in 0..1.
        mesh: Closed surface, object frame.
        pieces: Convex pieces whose union stands for the object in collision.
        mass_kg: Mass [kg].
        friction: Coefficient of friction, static and dynamic alike.
        restitution: Coefficient of restitution.
        material: What it is thought to be made of, a row of the materials table.
        size_sigma_m: Standard deviation of ``size_m``, (3,) float64 [m].
        position_sigma_m: Standard deviation of its position in the world, (3,) float64 [m].
    """

    name: str
    key: str
    shape: str
    hollow: bool
    T_world_object: np.ndarray
    size_m: np.ndarray
    color_rgb: np.ndarray
    mesh: Mesh
    pieces: tuple[ConvexPiece, ...]
    mass_kg: float
    friction: float = 0.8
    restitution: float = 0.0
    material: str = ""
    size_sigma_m: np.ndarray = field(default_factory=lambda: np.zeros(3))
    position_sigma_m: np.ndarray = field(default_factory=lambda: np.zeros(3))


@dataclass(frozen=True, eq=False)
class Support:
    """The flat surface everything stands on, at world z = 0.

    Attributes:
        polygon_w: Convex outline (K, 2) float64, counter-clockwise seen from above: the part of the surface known to exist [m].
        thickness_m: How far the slab reaches down [m].
        friction: Coefficient of friction.
    """

    polygon_w: np.ndarray
    thickness_m: float = 0.04
    friction: float = 0.8


def depth_inside(polygon_w: np.ndarray, points_w: np.ndarray) -> np.ndarray:
    """How deep points (..., 2) lie inside a convex, counter-clockwise polygon (K, 2): distance to the nearest edge line, negative outside [m]."""
    edges = np.roll(polygon_w, -1, axis=0) - polygon_w
    lengths = np.maximum(np.linalg.norm(edges, axis=1, keepdims=True), 1e-12)
    inwards = np.stack([-edges[:, 1], edges[:, 0]], -1) / lengths
    return ((points_w[..., None, :] - polygon_w) * inwards).sum(-1).min(-1)


@dataclass(frozen=True, eq=False)
class Scene:
    """The metric twin of one photo. Images are paths relative to ``folder``.

    Attributes:
        name: Short name.
        camera: The photo's camera.
        objects: Movable things.
        support: What they stand on.
        background: Geometry of what lies behind the objects (support included), world frame, textured with the background image.
        photo: The photo, PNG.
        depth: Depth of the whole photo, 16-bit PNG [mm], 0 = unknown.
        masks: 8-bit PNG of object ids: 0 background, i + 1 the i-th object.
        background_rgb: The photo without the objects, PNG.
        background_depth: Its depth, 16-bit PNG [mm], 0 = nothing within range.
        owners: 8-bit PNG: i + 1 where background and photo differ because of object i, its body and its shadow; 0 where they are the same.
        light: What shone on the scene.
        camera_sigma: How sure the camera is.
        notes: How each thing was found or assumed: one sentence per key.
        folder: Where the images are; not part of the saved value.
    """

    name: str
    camera: Camera
    objects: tuple[SceneObject, ...]
    support: Support
    background: Mesh
    photo: str = "photo.png"
    depth: str = "depth.png"
    masks: str = "masks.png"
    background_rgb: str = "background.png"
    background_depth: str = "background_depth.png"
    owners: str = "owners.png"
    light: Light = field(default_factory=plain_light)
    camera_sigma: CameraSigma = CameraSigma()
    notes: dict[str, str] = field(default_factory=dict)
    folder: Path = Path()

    def path(self, name: str) -> Path:
        """The file that a relative image name of this scene stands for."""
        return self.folder / name

    def object(self, name: str) -> SceneObject:
        """The object of that name or key.

        Raises:
            InputError: There is none.
        """
        for item in self.objects:
            if name in (item.name, item.key):
                return item
        raise InputError(f"The scene has no object '{name}'. It has: {', '.join(o.name for o in self.objects)}.")


def scene_equal(a: Any, b: Any) -> bool:
    """True where two scene values are the same, arrays bit by bit; ``Scene.folder`` does not count."""
    if isinstance(a, np.ndarray) or isinstance(b, np.ndarray):
        return np.shape(a) == np.shape(b) and bool(np.array_equal(a, b))
    if type(a) is not type(b):
        return False
    if isinstance(a, tuple):
        return len(a) == len(b) and all(scene_equal(x, y) for x, y in zip(a, b, strict=True))
    if hasattr(a, "__dataclass_fields__"):
        return all(scene_equal(getattr(a, f.name), getattr(b, f.name)) for f in fields(a) if f.name != "folder")
    return a == b


def save_scene(scene: Scene, folder: Path) -> None:
    """Write ``scene.json`` and ``meshes/*.npz`` into ``folder``; ``scene.json`` comes last, so its presence means the rest is whole."""
    (folder / "meshes").mkdir(parents=True, exist_ok=True)
    _save_mesh(folder / "meshes/background.npz", scene.background)
    for item in scene.objects:
        _save_mesh(folder / f"meshes/{item.key}.npz", item.mesh, item.pieces)
    value = {
        "version": SCENE_VERSION,
        "name": scene.name,
        "camera": {
            "K_px": scene.camera.K_px.tolist(),
            "width": scene.camera.width,
            "height": scene.camera.height,
            "T_world_camera": scene.camera.T_world_camera.tolist(),
        },
        "objects": [_object_to_json(item) for item in scene.objects],
        "support": {
            "polygon_w": scene.support.polygon_w.tolist(),
            "thickness_m": scene.support.thickness_m,
            "friction": scene.support.friction,
        },
        "background": {"mesh": "meshes/background.npz", "texture": scene.background.texture},
        "photo": scene.photo,
        "depth": scene.depth,
        "masks": scene.masks,
        "background_rgb": scene.background_rgb,
        "background_depth": scene.background_depth,
        "owners": scene.owners,
        "light": light_to_json(scene.light),
        "camera_sigma": asdict(scene.camera_sigma),
        "notes": scene.notes,
    }
    partial = folder / "scene.json.partial"
    partial.write_text(json.dumps(value, indent=1) + "\n")
    os.replace(partial, folder / "scene.json")


def load_scene(folder: Path) -> Scene:
    """The scene that ``save_scene`` wrote into ``folder``.

    Raises:
        InputError: The folder holds no readable scene of this version.
    """
    file = folder / "scene.json"
    if not file.is_file():
        raise InputError(f"'{folder}' is not a twin: it has no scene.json. Make one with scripts/reconstruct.py.")
    try:
        value = json.loads(file.read_text())
        if value["version"] != SCENE_VERSION:
            raise InputError(
                f"'{file}' has version {value['version']}, this program reads {SCENE_VERSION}: make the twin again."
            )
        camera, support = value["camera"], value["support"]
        return Scene(
            name=value["name"],
            camera=Camera(
                np.array(camera["K_px"], dtype=np.float64),
                camera["width"],
                camera["height"],
                np.array(camera["T_world_camera"], dtype=np.float64),
            ),
            objects=tuple(_object_from_json(item, folder) for item in value["objects"]),
            support=Support(
                np.array(support["polygon_w"], dtype=np.float64), support["thickness_m"], support["friction"]
            ),
            background=_load_mesh(folder / value["background"]["mesh"], value["background"]["texture"])[0],
            photo=value["photo"],
            depth=value["depth"],
            masks=value["masks"],
            background_rgb=value["background_rgb"],
            background_depth=value["background_depth"],
            owners=value["owners"],
            light=light_from_json(value["light"]),
            camera_sigma=CameraSigma(**value["camera_sigma"]),
            notes=value["notes"],
            folder=folder,
        )
    except (OSError, KeyError, ValueError, TypeError) as error:
        raise InputError(
            f"'{file}' cannot be read as a twin ({type(error).__name__}: {error}): make it again."
        ) from error


def _object_to_json(item: SceneObject) -> dict[str, Any]:
    value = {f.name: getattr(item, f.name) for f in fields(item) if f.name not in ("mesh", "pieces")}
    value = {k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in value.items()}
    return value | {"mesh": f"meshes/{item.key}.npz", "texture": item.mesh.texture}


def _object_from_json(value: dict[str, Any], folder: Path) -> SceneObject:
    mesh, pieces = _load_mesh(folder / value["mesh"], value["texture"])
    arrays = {k: np.array(value[k], dtype=np.float64) for k in OBJECT_ARRAYS}
    plain = {k: value[k] for k in OBJECT_VALUES}
    return SceneObject(mesh=mesh, pieces=pieces, **arrays, **plain)


def _save_mesh(file: Path, mesh: Mesh, pieces: tuple[ConvexPiece, ...] = ()) -> None:
    arrays = {"points": mesh.points, "faces": mesh.faces, "st": mesh.st}
    for i, piece in enumerate(pieces):
        arrays[f"piece_{i}_points"], arrays[f"piece_{i}_faces"] = piece.points, piece.faces
    np.savez(file, **arrays)  # pyright: ignore[reportArgumentType]


def _load_mesh(file: Path, texture: str | None) -> tuple[Mesh, tuple[ConvexPiece, ...]]:
    with np.load(file) as data:
        count = sum(name.startswith("piece_") for name in data.files) // 2
        pieces = tuple(ConvexPiece(data[f"piece_{i}_points"], data[f"piece_{i}_faces"]) for i in range(count))
        return Mesh(data["points"], data["faces"], data["st"], texture), pieces
