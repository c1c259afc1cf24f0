"""Scene -> MJCF: the twin for MuJoCo's own engine, with its meshes and textures beside it."""

from __future__ import annotations

import os
import shutil
import xml.etree.ElementTree as ET
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from phototwin.errors import InputError, OutputError
from phototwin.frames import T_OPENCV_USD, quat_xyzw_from_matrix
from phototwin.scene import Camera, Scene, SceneObject, Support
from phototwin.stage.mass import mass_properties
from phototwin.stage.obj import obj_text
from phototwin.stage.shapes import few_corners, rectangle, slab

VISUAL_GROUP, COLLISION_GROUP = 2, 3
"""MuJoCo's viewer shows groups 0 to 2; 3 is where models keep collision shapes."""
TORSION_FRICTION_M, ROLL_FRICTION_M = 0.005, 0.0001
"""MuJoCo's defaults; a photo says nothing about them."""
CONTACT_S = 0.008
"""Time constant of contacts: MuJoCo's default of 20 ms lets things sink in by 0.1 mm and swing."""
SLIP_RATIO = "10"
"""How much stiffer friction is than contact; at 1, things in a grasp creep."""
PIXEL_M = 1e-5
"""Size of one sensor pixel; only ratios to it matter."""


def export_mjcf(scene: Scene, file: Path) -> Path:
    """Write the scene as MuJoCo XML ``file`` with its meshes and textures in ``<stem>_assets`` beside it.

    Objects are free bodies with one convex geom per piece, the support is a box (or a hull where it is no rectangle), the
    camera has the photo's intrinsics. MuJoCo has no coefficient of restitution, so that value is left out.

    Returns:
        ``file``.

    Raises:
        InputError: A texture of the scene does not exist, or an object encloses no volume.
        OutputError: The files cannot be written.
    """
    assets = file.with_name(f"{file.stem}_assets")
    root = ET.Element("mujoco", model=scene.name)
    _add(root, "compiler", angle="radian", meshdir=assets.name, texturedir=assets.name)
    # A round friction cone, so that a thing slides as far in every direction: with the default pyramid a pushed box turns and
    # runs up to three times too far. Several contacts between two convex shapes: a flat bottom on a flat table needs them.
    _add(_add(root, "option", cone="elliptic", impratio=SLIP_RATIO), "flag", multiccd="enable")
    asset, world = _add(root, "asset"), _add(root, "worldbody")
    try:
        assets.mkdir(parents=True, exist_ok=True)
        _add(world, "light", pos="0 0 3", dir="0 0 -1", directional="true")
        _add_camera(world, scene.camera)
        _add_support(asset, world, scene.support, assets)
        for item in scene.objects:
            _add_object(asset, world, item, scene, assets)
        ET.indent(root)
        partial = file.with_name(f".{file.name}.partial")
        partial.write_text(ET.tostring(root, encoding="unicode") + "\n")
        os.replace(partial, file)
    except OSError as error:
        raise OutputError(f"The MJCF could not be written to '{file}': {error.strerror or error}.") from error
    return file


def _add(parent: ET.Element, tag: str, **attributes: str) -> ET.Element:
    return ET.SubElement(parent, tag, attributes)


def _text(values: Iterable[float]) -> str:
    """Numbers as MJCF writes them, with every digit."""
    return " ".join(repr(float(value)) for value in values)


def _pose(T_world_prim: np.ndarray) -> dict[str, str]:
    quat_wxyz = np.roll(quat_xyzw_from_matrix(T_world_prim[:3, :3]), 1)
    return {"pos": _text(T_world_prim[:3, 3]), "quat": _text(quat_wxyz)}


def _contact(friction: float) -> dict[str, str]:
    return {
        "group": str(COLLISION_GROUP),
        "friction": _text((friction, TORSION_FRICTION_M, ROLL_FRICTION_M)),
        "condim": "4",
        "solref": _text((CONTACT_S, 1.0)),
    }


def _add_camera(world: ET.Element, camera: Camera) -> None:
    """MuJoCo measures the principal point from the middle of the image, to the left and up, and looks along -Z like USD."""
    (fx, _, cx), (_, fy, cy), _ = camera.K_px.tolist()
    _add(
        world,
        "camera",
        name="camera",
        resolution=f"{camera.width} {camera.height}",
        sensorsize=_text((camera.width * PIXEL_M, camera.height * PIXEL_M)),
        focalpixel=_text((fx, fy)),
        principalpixel=_text((camera.width / 2 - cx, camera.height / 2 - cy)),
        **_pose(camera.T_world_camera @ T_OPENCV_USD),
    )


def _add_support(asset: ET.Element, world: ET.Element, support: Support, assets: Path) -> None:
    """A static geom of the world body whose top is z = 0."""
    common = {"name": "support", "rgba": "0.6 0.55 0.5 1"} | _contact(support.friction)
    box = rectangle(support.polygon_w)
    if box is None:
        (assets / "support.obj").write_text(obj_text(*slab(few_corners(support.polygon_w), support.thickness_m)))
        _add(asset, "mesh", name="support", file="support.obj")
        _add(world, "geom", type="mesh", mesh="support", **common)
        return
    center, size, yaw = box
    half = (*(size / 2), support.thickness_m / 2)
    position = (*center, -support.thickness_m / 2)
    quat_wxyz = (np.cos(yaw / 2), 0.0, 0.0, np.sin(yaw / 2))
    _add(world, "geom", type="box", size=_text(half), pos=_text(position), quat=_text(quat_wxyz), **common)


def _add_object(asset: ET.Element, world: ET.Element, item: SceneObject, scene: Scene, assets: Path) -> None:
    """A free body with its surface to be seen, its pieces to collide, and its mass."""
    body = _add(world, "body", name=item.key, **_pose(item.T_world_object))
    _add(body, "freejoint", name=f"{item.key}_free")
    mass = mass_properties(item)
    _add(
        body,
        "inertial",
        mass=repr(float(item.mass_kg)),
        pos=_text(mass.center_o),
        quat=_text(np.roll(mass.axes_quat_xyzw, 1)),
        diaginertia=_text(mass.inertia),
    )
    (assets / f"{item.key}.obj").write_text(obj_text(item.mesh.points, item.mesh.faces, item.mesh.st))
    # "shell" keeps MuJoCo from asking a surface that is only seen for a volume.
    _add(asset, "mesh", name=item.key, file=f"{item.key}.obj", inertia="shell")
    look = {"rgba": _text((*item.color_rgb, 1.0))}
    if item.mesh.texture is not None:
        source = scene.path(item.mesh.texture)
        if not source.is_file():
            raise InputError(f"The scene names the image '{item.mesh.texture}', which '{scene.folder}' does not have.")
        shutil.copyfile(source, assets / f"{item.key}.png")
        _add(asset, "texture", name=item.key, type="2d", file=f"{item.key}.png")
        _add(asset, "material", name=item.key, texture=item.key)
        look = {"material": item.key}
    seen = {"contype": "0", "conaffinity": "0", "group": str(VISUAL_GROUP)}
    _add(body, "geom", name=f"{item.key}_visual", type="mesh", mesh=item.key, **seen, **look)
    for i, piece in enumerate(item.pieces):
        name = f"{item.key}_piece_{i}"
        (assets / f"{name}.obj").write_text(obj_text(piece.points, piece.faces))
        _add(asset, "mesh", name=name, file=f"{name}.obj")
        _add(body, "geom", name=name, type="mesh", mesh=name, **_contact(item.friction))
