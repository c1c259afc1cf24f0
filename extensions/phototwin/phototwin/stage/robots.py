"""Robots as USD: converted once from their URDF, made ready for physics, kept in a cache."""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

from phototwin.errors import InputError, OutputError, TwinError
from phototwin.robots import Robot, match_joint
from phototwin.stage.compose import compose_urdf

RECIPE_VERSION = 1
"""Raise it when what this file makes of a URDF changes: robots in caches are then made again."""

ROBOT_PACKAGE = "example-robot-data"
CONVERTER_PACKAGE = "urdf-usd-converter"
FINGER_STATIC_FRICTION = 1.2
"""Rubber pads on dry plastic, wood or glazed ceramics: engineering tables give 0.8 to 1.3."""
FINGER_DYNAMIC_FRICTION = 1.0

LEAST_FREE_BYTES = 64 * 2**20
"""Converting takes a few times the 3 MB of the result."""


def robot_urdf(robot: Robot, cache: Path | None = None) -> tuple[Path, Path]:
    """The robot's URDF and the folder in which its ``package://`` addresses are found.

    Where a hand is mounted, joints are held or limbs left out the URDF is composed, and kept in the cache.

    Args:
        robot: The robot.
        cache: Folder to keep it in; by default ``cache_folder()``.

    Raises:
        TwinError: The package with the robots is not installed, or has no such robot.
        OutputError: The cache cannot be written.
    """
    try:
        share = Path(str(metadata.distribution(ROBOT_PACKAGE).locate_file("cmeel.prefix/share")))
    except metadata.PackageNotFoundError as error:
        raise TwinError(
            f"The robot '{robot.name}' needs the Python package '{ROBOT_PACKAGE}', which is not installed: install it."
        ) from error
    named = [robot.urdf] + ([robot.hand.urdf] if robot.hand else [])
    for name in named:
        if not (share / ROBOT_PACKAGE / name).is_file():
            raise InputError(
                f"The robot '{robot.name}' names the URDF '{name}', which '{ROBOT_PACKAGE}' does not have."
            )
    if not (robot.hand or robot.locked or robot.without or robot.boxes):
        return share / ROBOT_PACKAGE / robot.urdf, share
    texts = [(share / ROBOT_PACKAGE / name).read_text(errors="replace") for name in named]
    text = compose_urdf(texts[0], "".join(texts[1:]), robot)
    target = _cache(cache) / f"{robot.name}-{hashlib.sha256(text.encode()).hexdigest()[:12]}.urdf"
    if not target.is_file():
        with _made_aside(target) as aside:
            aside.write_text(text)
    return target, share


def _cache(cache: Path | None) -> Path:
    return (cache or cache_folder()) / "robots"


@contextmanager
def _made_aside(target: Path) -> Iterator[Path]:
    """A file in a folder of its own beside ``target``, put in its place at the end.

    Two processes may make the same: the renames put the same file in place twice.

    Raises:
        OutputError: The folder cannot be written.
    """
    folder = target.parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if shutil.disk_usage(folder).free < LEAST_FREE_BYTES:  # the converter itself blames the URDF
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        aside = Path(tempfile.mkdtemp(prefix=f".{target.stem}-", dir=folder))
    except OSError as error:
        raise OutputError(
            f"The cache folder '{folder}' cannot be written ({error.strerror}): set PHOTOTWIN_CACHE to one that can."
        ) from error
    try:
        yield aside / target.name
        os.replace(aside / target.name, target)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def cache_folder() -> Path:
    """Where made things that can be made again are kept: ``$PHOTOTWIN_CACHE``, otherwise a folder in the user's cache."""
    named = os.environ.get("PHOTOTWIN_CACHE")
    return Path(named) if named else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "phototwin"


def robot_usd(robot: Robot, cache: Path | None = None) -> Path:
    """One self-contained USD file of the robot, its articulation root on the default prim, made on first use.

    Args:
        robot: The robot.
        cache: Folder to keep it in; by default ``cache_folder()``.

    Raises:
        TwinError: The URDF is missing, cannot be converted, or lacks what ``robot`` says of it.
        OutputError: The cache cannot be written.
    """
    urdf, share = robot_urdf(robot, cache)
    target = _cache(cache) / f"{robot.name}-{_key(robot, urdf)}.usdc"
    if not target.is_file():
        with _made_aside(target) as aside:
            _prepare(_convert(robot, urdf, share, aside.parent), robot, aside)
    return target


def _key(robot: Robot, urdf: Path) -> str:
    """What a cached robot depends on, as twelve hex digits."""
    versions = [metadata.version(name) for name in (ROBOT_PACKAGE, CONVERTER_PACKAGE, "usd-exchange")]
    value = json.dumps([RECIPE_VERSION, asdict(robot), versions, urdf.read_text(errors="replace")], sort_keys=True)
    return hashlib.sha256(value.encode()).hexdigest()[:12]


def _convert(robot: Robot, urdf: Path, share: Path, folder: Path) -> Path:
    """The converter's USD, in one file inside ``folder``."""
    try:
        from urdf_usd_converter import Converter
    except ImportError as error:
        raise TwinError(
            f"The robot '{robot.name}' must be converted to USD, which needs the package '{CONVERTER_PACKAGE}': install it."
        ) from error
    packages = [{"name": ROBOT_PACKAGE, "path": str(share / ROBOT_PACKAGE)}]
    try:
        with _only_errors():
            made = Converter(layer_structure=False, scene=False, ros_packages=packages).convert(str(urdf), str(folder))
    except Exception as error:  # the converter lets through whatever its parsers and file readers raise
        raise TwinError(
            f"The URDF of the robot '{robot.name}' could not be converted to USD ({type(error).__name__}: {error}): "
            f"check '{robot.urdf}' and the meshes it names."
        ) from error
    return Path(str(made.path))


@contextmanager
def _only_errors() -> Iterator[None]:
    """Hush USD's status lines: the converter prints one for each mesh and one for each line drawing it leaves out."""
    import usdex.core as usdex

    was_active, level = usdex.isDiagnosticsDelegateActive(), usdex.getDiagnosticsLevel()
    usdex.activateDiagnosticsDelegate()
    usdex.setDiagnosticsLevel(usdex.DiagnosticsLevel.eError)
    try:
        yield
    finally:
        usdex.setDiagnosticsLevel(level)
        if not was_active:
            usdex.deactivateDiagnosticsDelegate()


def _prepare(source: Path, robot: Robot, target: Path) -> None:
    """Make the converter's stage what both physics engines drive alike, as one crate file."""
    from pxr import Usd, UsdPhysics

    stage = Usd.Stage.Open(str(source))
    for prim in list(stage.TraverseAll()):
        prim.SetInstanceable(False)  # shared shaders would otherwise end up in prims beside the default one
    flat = stage.Flatten()
    flat.documentation = ""  # names the temporary folder
    flat.Export(str(target))
    stage = Usd.Stage.Open(str(target))
    root = stage.GetDefaultPrim()
    for prim in list(stage.GetPseudoRoot().GetAllChildren()):
        if prim != root:
            stage.RemovePrim(prim.GetPath())
    for prim in Usd.PrimRange(root):
        if prim != root and prim.HasAPI(UsdPhysics.ArticulationRootAPI):
            prim.RemoveAPI(UsdPhysics.ArticulationRootAPI)
            prim.RemoveAppliedSchema("NewtonArticulationRootAPI")  # it implies the one above
    UsdPhysics.ArticulationRootAPI.Apply(root)
    joints = _movable_joints(root)
    missing = sorted({*robot.arm_joints, *robot.finger_joints} - set(joints))
    if missing:
        raise TwinError(
            f"The URDF of the robot '{robot.name}' has no joint {', '.join(missing)}; it has {', '.join(joints)}."
        )
    for name, joint in joints.items():
        _author_drive(joint, name, robot)
    _bind_finger_material(stage, robot, joints)
    stage.Save()


def _movable_joints(root: Any) -> dict[str, Any]:
    """Revolute and prismatic joint prims by name."""
    from pxr import Usd, UsdPhysics

    kinds = (UsdPhysics.RevoluteJoint, UsdPhysics.PrismaticJoint)
    return {p.GetName(): p for p in Usd.PrimRange(root) if any(p.IsA(kind) for kind in kinds)}


def _author_drive(joint: Any, name: str, robot: Robot) -> None:
    """Position drive with the robot's gains; PhysX follows no target without one."""
    from pxr import UsdPhysics

    revolute = joint.IsA(UsdPhysics.RevoluteJoint)
    per_unit = math.pi / 180 if revolute else 1.0  # USD's angular gains are per degree
    drive = UsdPhysics.DriveAPI.Apply(joint, "angular" if revolute else "linear")
    drive.CreateTypeAttr("force")
    drive.CreateTargetPositionAttr(0.0)
    drive.CreateStiffnessAttr(_gain(robot.stiffness, name, "stiffness", robot) * per_unit)
    drive.CreateDampingAttr(_gain(robot.damping, name, "damping", robot) * per_unit)
    drive.CreateMaxForceAttr(_gain(robot.effort, name, "effort", robot))
    if joint.HasAPI("NewtonMimicAPI"):
        # Only Newton would couple the fingers: PhysX reads no mimic from a URDF. Both fingers are driven instead.
        joint.RemoveAppliedSchema("NewtonMimicAPI")
        for attribute in [p for p in joint.GetProperties() if "mimic" in p.GetName().lower()]:
            joint.RemoveProperty(attribute.GetName())


def _gain(patterns: dict[str, float], joint: str, what: str, robot: Robot) -> float:
    """The robot's value for a joint."""
    value = match_joint(patterns, joint)
    if value is not None:
        return value
    raise TwinError(
        f"The robot '{robot.name}' states no {what} for its joint '{joint}': add a pattern that matches it "
        f"(it has {', '.join(patterns) or 'none'})."
    )


def _bind_finger_material(stage: Any, robot: Robot, joints: dict[str, Any]) -> None:
    """Give every collider of the links that close on things the friction of rubber pads; of the whole hand where one jaw is part of it."""
    from pxr import Usd, UsdGeom, UsdPhysics, UsdShade

    scope = UsdGeom.Scope.Define(stage, stage.GetDefaultPrim().GetPath().AppendChild("PhysicsMaterials"))
    material = UsdShade.Material.Define(stage, scope.GetPath().AppendChild("finger"))
    physics = UsdPhysics.MaterialAPI.Apply(material.GetPrim())
    physics.CreateStaticFrictionAttr(FINGER_STATIC_FRICTION)
    physics.CreateDynamicFrictionAttr(FINGER_DYNAMIC_FRICTION)
    physics.CreateRestitutionAttr(0.0)
    moved = [UsdPhysics.Joint(joints[name]).GetBody1Rel().GetTargets() for name in robot.finger_joints]
    links = {stage.GetPrimAtPath(path).GetName() for paths in moved for path in paths}
    hand = links | {robot.tcp_body} if robot.one_jaw else links
    bound = 0
    for prim in Usd.PrimRange(stage.GetDefaultPrim()):
        if prim.HasAPI(UsdPhysics.CollisionAPI) and hand & set(_bodies(prim)[: None if robot.one_jaw else 1]):
            UsdShade.MaterialBindingAPI.Apply(prim).Bind(material, UsdShade.Tokens.weakerThanDescendants, "physics")
            bound += 1
    if not bound:
        raise TwinError(
            f"The fingers of the robot '{robot.name}' have no collision shapes: it could not grasp anything."
        )


def _bodies(prim: Any) -> list[str]:
    """Names of the body that a prim is part of and of those that carry it, outwards in."""
    from pxr import UsdPhysics

    names = []
    while prim:
        if prim.HasAPI(UsdPhysics.RigidBodyAPI):
            names.append(prim.GetName())
        prim = prim.GetParent()
    return names
