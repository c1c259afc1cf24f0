"""Scene -> URDF: one file per object, with its meshes and texture beside it, for the programs that read nothing else."""

from __future__ import annotations

import os
import shutil
import xml.etree.ElementTree as ET
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from phototwin.errors import InputError, OutputError
from phototwin.frames import matrix_from_quat_xyzw
from phototwin.scene import Scene, SceneObject
from phototwin.stage.mass import mass_properties
from phototwin.stage.obj import obj_text

MESHES = "meshes"
"""Subfolder of what the URDF files name."""


def export_urdf(scene: Scene, folder: Path) -> tuple[Path, ...]:
    """Write ``<key>.urdf`` for each object into ``folder``: one link in the object's frame.

    The link has the textured surface, one collision per convex piece, mass, centre of mass and inertia. URDF has no place
    for poses in a scene or for restitution; friction stands in the ``gazebo`` element that simulators look for.

    Returns:
        The URDF files in the order of the objects.

    Raises:
        InputError: A texture of the scene does not exist, or an object encloses no volume.
        OutputError: The files cannot be written.
    """
    try:
        (folder / MESHES).mkdir(parents=True, exist_ok=True)
        return tuple(_write_object(item, scene, folder) for item in scene.objects)
    except OSError as error:
        raise OutputError(f"The URDF files could not be written to '{folder}': {error.strerror or error}.") from error


def _write_object(item: SceneObject, scene: Scene, folder: Path) -> Path:
    """One URDF file with everything it names."""
    robot = ET.Element("robot", name=item.key)
    link = ET.SubElement(robot, "link", name=item.key)
    _add_inertial(link, item)
    visual = ET.SubElement(link, "visual", name=f"{item.key}_visual")
    _add_mesh(visual, _write_surface(item, scene, folder))
    material = ET.SubElement(visual, "material", name=f"{item.key}_material")
    ET.SubElement(material, "color", rgba=_text((*item.color_rgb, 1.0)))
    for i, piece in enumerate(item.pieces):
        name = f"{item.key}_piece_{i}"
        (folder / MESHES / f"{name}.obj").write_text(obj_text(piece.points, piece.faces))
        _add_mesh(ET.SubElement(link, "collision", name=name), f"{name}.obj")
    surface = ET.SubElement(robot, "gazebo", reference=item.key)
    for tag in ("mu1", "mu2"):
        ET.SubElement(surface, tag).text = repr(float(item.friction))
    ET.indent(robot)
    file, partial = folder / f"{item.key}.urdf", folder / f".{item.key}.urdf.partial"
    partial.write_text('<?xml version="1.0"?>\n' + ET.tostring(robot, encoding="unicode") + "\n")
    os.replace(partial, file)
    return file


def _text(values: Iterable[float]) -> str:
    """Numbers with every digit."""
    return " ".join(repr(float(value)) for value in values)


def _add_mesh(parent: ET.Element, name: str) -> None:
    ET.SubElement(parent, "origin", xyz="0 0 0", rpy="0 0 0")
    # Relative to the URDF file, as pinocchio, MuJoCo, yourdfpy and Isaac Lab's converter read it.
    ET.SubElement(ET.SubElement(parent, "geometry"), "mesh", filename=f"{MESHES}/{name}")


def _add_inertial(link: ET.Element, item: SceneObject) -> None:
    """Mass and the inertia tensor about the centre of mass, along the axes of the object."""
    mass = mass_properties(item)
    R = matrix_from_quat_xyzw(mass.axes_quat_xyzw)
    tensor = R @ np.diag(mass.inertia) @ R.T
    inertial = ET.SubElement(link, "inertial")
    ET.SubElement(inertial, "origin", xyz=_text(mass.center_o), rpy="0 0 0")
    ET.SubElement(inertial, "mass", value=repr(float(item.mass_kg)))
    entries = {f"i{'xyz'[a]}{'xyz'[b]}": repr(float(tensor[a, b])) for a in range(3) for b in range(a, 3)}
    ET.SubElement(inertial, "inertia", entries)


def _write_surface(item: SceneObject, scene: Scene, folder: Path) -> str:
    """The surface as an OBJ with its texture in an MTL; returns the name of the OBJ."""
    material = ""
    if item.mesh.texture is not None:
        source = scene.path(item.mesh.texture)
        if not source.is_file():
            raise InputError(f"The scene names the image '{item.mesh.texture}', which '{scene.folder}' does not have.")
        shutil.copyfile(source, folder / MESHES / f"{item.key}.png")
        lines = [f"newmtl {item.key}", "Ka 1 1 1", "Kd 1 1 1", "Ks 0 0 0", f"map_Kd {item.key}.png"]
        (folder / MESHES / f"{item.key}.mtl").write_text("\n".join(lines) + "\n")
        material = item.key
    text = obj_text(item.mesh.points, item.mesh.faces, item.mesh.st, material)
    (folder / MESHES / f"{item.key}.obj").write_text(text)
    return f"{item.key}.obj"
