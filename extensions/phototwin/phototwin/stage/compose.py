"""The URDF of a robot made of others: a hand mounted on an arm, joints made rigid, limbs left out, boxes for collision shapes."""

from __future__ import annotations

import math
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

import numpy as np

from phototwin.errors import InputError
from phototwin.robots import Box, Hand, Robot, match_joint

KEPT = ("link", "joint", "material")
"""The rest of a URDF is for other simulators, and may name joints that are gone."""


def compose_urdf(arm: str, hand: str, robot: Robot) -> str:
    """The URDF of a robot as text: the arm's with what ``robot.hand``, ``without``, ``boxes`` and ``locked`` make of it.

    Args:
        arm: Text of the URDF ``robot.urdf``.
        hand: Text of the URDF ``robot.hand.urdf``; "" where the robot has no hand to mount.
        robot: What to make.

    Raises:
        InputError: A text is no URDF, or lacks a link or joint that ``robot`` names, or both have one of the same name.
    """
    tree = _parse(arm, robot.urdf)
    tree.set("name", robot.name)
    if robot.hand:
        _mount(tree, _parse(hand, robot.hand.urdf), robot.hand)
    for name in robot.without:
        joint = _one(tree, "joint", name)
        gone = _subtree(tree, _end(joint, "child"))
        for element in [*tree.findall("link"), *tree.findall("joint")]:
            if element.get("name") in gone if element.tag == "link" else _end(element, "child") in gone:
                tree.remove(element)
    for name, boxes in robot.boxes.items():
        _reshape(_one(tree, "link", name), boxes)
    for joint in tree.findall("joint"):
        position = match_joint(robot.locked, str(joint.get("name")))
        if position is not None and joint.get("type") != "fixed":
            _lock(joint, position)
    return ElementTree.tostring(tree, encoding="unicode")


def _parse(text: str, name: str) -> Element:
    """The root element, without what is not kept."""
    try:
        tree = ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        raise InputError(f"'{name}' is not a URDF ({error}): check the file.") from error
    for element in list(tree):
        if element.tag not in KEPT:
            tree.remove(element)
    return tree


def _one(tree: Element, tag: str, name: str) -> Element:
    for element in tree.findall(tag):
        if element.get("name") == name:
            return element
    raise InputError(f"The URDF '{tree.get('name')}' has no {tag} '{name}': correct the robot's description.")


def _end(joint: Element, which: str) -> str:
    """Name of the joint's parent or child link."""
    element = joint.find(which)
    return "" if element is None else str(element.get("link"))


def _subtree(tree: Element, root: str) -> set[str]:
    """Names of the link and of all that it carries."""
    names, grown = {root}, True
    while grown:
        more = {_end(joint, "child") for joint in tree.findall("joint") if _end(joint, "parent") in names}
        grown = not more <= names
        names |= more
    return names


def _mount(tree: Element, other: Element, hand: Hand) -> None:
    """Add the hand's links and joints to the arm's, on a fixed joint."""
    _one(tree, "link", hand.mount)
    _one(other, "link", hand.link)
    links = _subtree(other, hand.link)
    taken = {(element.tag, element.get("name")) for element in tree}
    for element in other:
        name = (element.tag, element.get("name"))
        inside = name[1] in links if element.tag == "link" else _end(element, "parent") in links
        if element.tag == "material":
            inside = name not in taken
        elif inside and name in taken:
            raise InputError(f"Arm and hand both have a {name[0]} '{name[1]}': mount a hand with other names.")
        if inside:
            tree.append(element)
    joint = ElementTree.SubElement(tree, "joint", name=f"{hand.link}_mount", type="fixed")
    ElementTree.SubElement(joint, "parent", link=hand.mount)
    ElementTree.SubElement(joint, "child", link=hand.link)
    ElementTree.SubElement(joint, "origin", xyz=_text(hand.position_m), rpy=_text(hand.rpy_rad))


def _reshape(link: Element, boxes: tuple[Box, ...]) -> None:
    """Give a link boxes for its collision shapes."""
    for element in link.findall("collision"):
        link.remove(element)
    for box in boxes:
        collision = ElementTree.SubElement(link, "collision")
        ElementTree.SubElement(collision, "origin", xyz=_text(box.center_m), rpy=_text(box.rpy_rad))
        ElementTree.SubElement(ElementTree.SubElement(collision, "geometry"), "box", size=_text(box.size_m))


def _lock(joint: Element, position: float) -> None:
    """Make a joint rigid at a position [rad or m]."""
    origin, axis = joint.find("origin"), joint.find("axis")
    xyz = _numbers(origin, "xyz", (0.0, 0.0, 0.0))
    turn = matrix_from_rpy(_numbers(origin, "rpy", (0.0, 0.0, 0.0)))
    along = _numbers(axis, "xyz", (1.0, 0.0, 0.0))  # URDF's default axis
    along = along / np.linalg.norm(along)
    if joint.get("type") == "prismatic":
        xyz = xyz + turn @ (position * along)
    else:
        turn = turn @ _about(along, position)
    for name in ("axis", "limit", "mimic", "dynamics", "safety_controller", "calibration", "origin"):
        for element in joint.findall(name):
            joint.remove(element)
    joint.set("type", "fixed")
    ElementTree.SubElement(joint, "origin", xyz=_text(xyz), rpy=_text(rpy_from_matrix(turn)))


def _numbers(element: Element | None, name: str, default: tuple[float, ...]) -> np.ndarray:
    value = None if element is None else element.get(name)
    return np.array(default) if value is None else np.array([float(x) for x in value.split()])


def _text(values: np.ndarray | tuple[float, ...]) -> str:
    return " ".join(repr(float(x)) for x in values)


def _about(axis: np.ndarray, angle: float) -> np.ndarray:
    """Rotation (3, 3) about a unit axis. Source: Rodrigues' formula."""
    x, y, z = axis
    K = np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
    return np.eye(3) + math.sin(angle) * K + (1.0 - math.cos(angle)) * K @ K


def matrix_from_rpy(rpy_rad: np.ndarray) -> np.ndarray:
    """Rotation (3, 3) of a URDF's roll, pitch and yaw: about the fixed X, then Y, then Z."""
    x, y, z = (_about(axis, angle) for axis, angle in zip(np.eye(3), rpy_rad, strict=True))
    return z @ y @ x


def rpy_from_matrix(R: np.ndarray) -> np.ndarray:
    """Roll, pitch and yaw (3,) of a rotation (3, 3), as a URDF states them; yaw is 0 where pitch is a right angle."""
    level = math.hypot(R[0, 0], R[1, 0])
    if level < 1e-9:
        return np.array([math.atan2(-R[1, 2], R[1, 1]), math.atan2(-R[2, 0], level), 0.0])
    return np.array([math.atan2(R[2, 1], R[2, 2]), math.atan2(-R[2, 0], level), math.atan2(R[1, 0], R[0, 0])])
