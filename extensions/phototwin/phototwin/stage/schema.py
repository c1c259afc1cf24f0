"""The attributes of ours that a twin's USD carries: one table, and the two functions that write and read by it.

USD's own schemas hold what other programs need. These attributes hold what USD has no place for, and the double-precision
values of what its own attributes round to single precision, so that a stage gives back the very ``Scene`` it was made from.
"""

from __future__ import annotations

from typing import Any

from phototwin.errors import InputError

STAGE_VERSION = 3
NAMESPACE = "phototwin"
ROLES = ("scene", "camera", "light", "support", "background", "object")

ATTRIBUTES: dict[str, tuple[str, str]] = {
    # every prim with a part in the twin
    "role": ("token", "What the prim is to us: one of ROLES."),
    "pose": (
        "double[]",
        "T_world_prim row by row (OpenCV axes for the camera); holds while the xform ops agree with it [m].",
    ),
    # the default prim, role scene
    "version": ("int", "Version of this table."),
    "name": ("string", "What people call the scene or the object."),
    "photo": ("asset", "The photo."),
    "depth": ("asset", "Depth of the photo, 16-bit PNG [mm], 0 = unknown."),
    "masks": ("asset", "Object ids, 8-bit PNG, 0 = background."),
    "backgroundRgb": ("asset", "The photo without the objects."),
    "backgroundDepth": ("asset", "Its depth, 16-bit PNG [mm], 0 = nothing within range."),
    "owners": ("asset", "For which object photo and background differ, 8-bit PNG of object ids, 0 = they do not."),
    "noteKeys": ("string[]", "What the notes are about."),
    "noteTexts": ("string[]", "How each of those things was found or assumed, one sentence each."),
    # role camera
    "K": ("double[]", "Intrinsics row by row, pixel centres at +0.5 [px]."),
    "width": ("int", "Image width [px]."),
    "height": ("int", "Image height [px]."),
    "sigma": (
        "double[]",
        "How sure the camera is: standard deviations of focal length [share], pitch, roll [rad], scale [share], depth at 1 m [m].",
    ),
    # role light
    "harmonics": (
        "double[]",
        "Radiance of everything but the source: nine real spherical harmonics, each linear RGB, 1 = the photo's white.",
    ),
    "direction": ("double3", "Unit vector from the scene towards the source."),
    "irradiance": ("double3", "What the source brings to a surface that faces it, linear RGB."),
    "halfAngle": ("double", "Angular radius of the source [rad]."),
    "distance": ("double", "How far the source is; infinite for the sun [m]."),
    "center": ("double3", "Where all of this was measured [m]."),
    "lightNote": ("string", "How the light was found."),
    # role support
    "polygon": ("double2[]", "Convex outline at z = 0, counter-clockwise seen from above [m]."),
    "thickness": ("double", "How far the slab reaches down [m]."),
    # role object
    "id": ("int", "The object's value in the mask image, from 1."),
    "shape": ("token", "The fitted shape: box, cylinder, sphere, revolution, extrusion or mesh."),
    "hollow": ("bool", "True for vessels that things can be put into."),
    "size": ("double3", "Extent of the bounding box along the object's axes [m]."),
    "color": ("double3", "Typical colour, sRGB in 0..1."),
    "mass": ("double", "Mass [kg]."),
    "massSource": ("token", "What inertia and centre of mass were computed from: mesh or pieces."),
    "friction": ("double", "Coefficient of friction, static and dynamic alike."),
    "restitution": ("double", "Coefficient of restitution."),
    "material": ("string", "What it is thought to be made of."),
    "sizeSigma": ("double3", "Standard deviation of size [m]."),
    "positionSigma": ("double3", "Standard deviation of the position in the world [m]."),
}
"""Attribute name without its namespace -> (Sdf value type, meaning)."""


def put(prim: Any, **values: Any) -> None:
    """Write attributes of ours on a prim; arrays must already be Vt arrays."""
    from pxr import Sdf

    for name, value in values.items():
        kind = Sdf.ValueTypeNames.Find(ATTRIBUTES[name][0])
        variability = Sdf.VariabilityUniform
        prim.CreateAttribute(f"{NAMESPACE}:{name}", kind, custom=True, variability=variability).Set(value)


def get(prim: Any, name: str) -> Any:
    """The value of an attribute of ours.

    Raises:
        InputError: The prim does not have it, or has it with another type.
    """
    attribute = prim.GetAttribute(f"{NAMESPACE}:{name}")
    if not attribute or attribute.Get() is None or str(attribute.GetTypeName()) != ATTRIBUTES[name][0]:
        raise InputError(
            f"The prim {prim.GetPath()} lacks the attribute {NAMESPACE}:{name} ({ATTRIBUTES[name][0]}): "
            f"the stage was not written by this program or was changed since. Make the twin again."
        )
    return attribute.Get()


def prims_by_role(stage: Any) -> dict[str, list[Any]]:
    """The stage's prims of every role, in the order in which the stage holds them."""
    found: dict[str, list[Any]] = {role: [] for role in ROLES}
    for prim in stage.Traverse():
        attribute = prim.GetAttribute(f"{NAMESPACE}:role")
        if attribute and attribute.Get() in found:
            found[attribute.Get()].append(prim)
    return found
