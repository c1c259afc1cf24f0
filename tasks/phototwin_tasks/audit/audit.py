"""Twin -> Audit: every measure of sim-readiness, and whether the scene may be used, with reasons."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from phototwin.errors import InputError, PlanError, TwinError
from phototwin.plan.grasp import MAX_CANDIDATES, propose_grasps
from phototwin.robots import Robot, get_robot
from phototwin.scene import Scene, SceneObject, load_scene
from phototwin.stage.validate import validate_stage
from phototwin_tasks.audit.engines import ENGINES, compare_engines, run_engine
from phototwin_tasks.audit.geometry import mesh_defects, reprojection_iou
from phototwin_tasks.audit.rest import Motion, MujocoTwin, Overlap, drift_m, falls, tilt_deg
from phototwin_tasks.audit.values import Audit, Limits, ObjectAudit
from phototwin_tasks.audit.verdict import judge

FEW_GRASPS = 200
"""Grasps that are tried before all are."""


def audit_twin(
    twin: Path,
    engines: tuple[str, ...] = ("mujoco",),
    robot: str = "panda",
    limits: Limits | None = None,
    validate: bool = True,
) -> Audit:
    """Measure and judge a twin; writes nothing.

    Args:
        twin: Folder of the twin.
        engines: Physics engines to compare, of ``ENGINES``. MuJoCo always runs: it measures overlaps and rest. The others
            run in a process of their own each.
        robot: Whose gripper is tried.
        limits: Where measures become reasons.
        validate: Whether to ask the asset validator about the USD.

    Raises:
        InputError: There is no twin, or an unknown engine or robot.
    """
    scene, hand, limits = load_scene(twin), get_robot(robot), limits or Limits()
    for name in engines:
        if name not in ENGINES:
            raise InputError(f"Unknown engine '{name}'. Choose among {', '.join(ENGINES)}.")
    issues, notes = _usd_issues(twin) if validate else (None, [])
    if not scene.objects:
        return Audit(scene.name, ("The scene has no objects.",), tuple(notes), (), issues, (), robot, limits)
    body = MujocoTwin(scene)
    before = body.overlaps()
    rest = body.settle()
    after = body.overlaps()
    motions = [Motion("mujoco", rest, body.push())]
    motions += [run_engine(twin, name) for name in engines if name != "mujoco"]
    compared = compare_engines(scene, motions, limits)
    ious = reprojection_iou(scene, [item.T_world_object for item in scene.objects])
    objects = tuple(
        _object_audit(scene, item, before[i], after[i], rest[i], ious[i], hand, limits)
        for i, item in enumerate(scene.objects)
    )
    reasons, warnings = judge(objects, compared, issues, limits)
    return Audit(scene.name, tuple(reasons), (*warnings, *notes), objects, issues, compared, robot, limits)


def _object_audit(
    scene: Scene,
    item: SceneObject,
    before: Overlap,
    after: Overlap,
    rest: np.ndarray,
    iou: float,
    robot: Robot,
    limits: Limits,
) -> ObjectAudit:
    note = _grasp_trouble(scene, item, robot)
    return ObjectAudit(
        name=item.name,
        key=item.key,
        penetration_before_mm=1000 * before.depth_m,
        penetration_after_mm=1000 * after.depth_m,
        inside=before.other,
        collides=1000 * before.depth_m > limits.collide_mm,
        falls=falls(item, rest, limits.fall_m, limits.topple_deg),
        drift_mm=1000 * drift_m(item, rest),
        tilt_deg=tilt_deg(item, rest),
        graspable=not note,
        grasp_note=note,
        reprojection_iou=iou,
        defects=mesh_defects(item, limits.volume_share),
    )


def _grasp_trouble(scene: Scene, item: SceneObject, robot: Robot) -> str:
    """Why the gripper cannot take an object where it stands, or "" where it can."""
    others = tuple((other, other.T_world_object) for other in scene.objects if other is not item)
    trouble = ""
    for candidates in (FEW_GRASPS, MAX_CANDIDATES):  # most things are taken by one of a few
        try:
            propose_grasps(item, robot, others, item.T_world_object, seed=0, count=2, candidates=candidates)
        except PlanError as error:
            trouble = str(error)
        else:
            return ""
    return trouble


def _usd_issues(twin: Path) -> tuple[tuple[str, ...] | None, list[str]]:
    """What the validator says, or why it was not asked."""
    if not (twin / "twin.usda").is_file():
        return ("twin.usda does not exist.",), []
    try:
        return tuple(validate_stage(twin / "twin.usda")), []
    except TwinError as error:
        return None, [f"The USD was not validated: {error}"]
