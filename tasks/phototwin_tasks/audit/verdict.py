"""Go or no-go: the measures of an audit as sentences."""

from __future__ import annotations

from phototwin_tasks.audit.geometry import BROKEN
from phototwin_tasks.audit.values import EngineResult, Limits, ObjectAudit


def judge(
    objects: tuple[ObjectAudit, ...],
    engines: tuple[EngineResult, ...],
    usd_issues: tuple[str, ...] | None,
    limits: Limits,
) -> tuple[list[str], list[str]]:
    """What speaks against using the scene, and what to know about it."""
    reasons, warnings = [], []
    for item in objects:
        no, warn = _judge_object(item, limits)
        reasons += no
        warnings += warn
    if not any(item.graspable for item in objects):
        reasons.append("The gripper can grasp none of the objects.")
    if usd_issues:
        reasons.append(f"The USD does not pass the validator ({len(usd_issues)} errors): {usd_issues[0]}")
    names = {item.key: item.name for item in objects}
    for result in engines:
        no, warn = judge_engine(result, names, limits)
        reasons += no
        warnings += warn
    return reasons, warnings


def _judge_object(item: ObjectAudit, limits: Limits) -> tuple[list[str], list[str]]:
    """Reasons and warnings about one object."""
    no, warn = [], []
    if item.collides:
        other = "the support" if item.inside == "support" else f"'{item.inside}'"
        depth = f"{item.penetration_before_mm:.1f} mm"
        no.append(f"The {item.name} starts {depth} inside {other} (at most {limits.collide_mm:g} mm).")
    if item.falls:
        no.append(f"The {item.name} falls: it ends {item.drift_mm:.0f} mm away, tilted by {item.tilt_deg:.0f} degrees.")
    elif item.drift_mm > limits.drift_mm:
        no.append(f"The {item.name} drifts {item.drift_mm:.0f} mm in 2 s (at most {limits.drift_mm:g} mm).")
    elif item.tilt_deg > limits.tilt_deg:
        warn.append(f"The {item.name} settles tilted by {item.tilt_deg:.1f} degrees (over {limits.tilt_deg:g}).")
    if item.reprojection_iou < limits.iou_warn:
        bound = limits.iou_no if item.reprojection_iou < limits.iou_no else limits.iou_warn
        text = (
            f"The {item.name} covers its mask in the photo by an IoU of {item.reprojection_iou:.2f} (under {bound:g})."
        )
        (no if item.reprojection_iou < limits.iou_no else warn).append(text)
    for defect in item.defects:
        (no if defect.startswith(BROKEN) else warn).append(f"Mesh of the {item.name}: {defect}.")
    if not item.graspable:
        warn.append(item.grasp_note)
    return no, warn


def judge_engine(result: EngineResult, names: dict[str, str], limits: Limits) -> tuple[list[str], list[str]]:
    """Reasons and warnings about one engine beside those that MuJoCo's rest has given already."""
    if result.failure:
        return [f"{result.engine} could not simulate the scene: {result.failure}"], []
    no, warn = [], []
    for o in result.objects:
        name = f"The {names[o.key]} in {result.engine}"
        if result.engine != "mujoco" and o.falls:
            no.append(f"{name} falls: it ends {o.drift_mm:.0f} mm away, tilted by {o.tilt_deg:.0f} degrees.")
        elif result.engine != "mujoco" and o.drift_mm > limits.drift_mm:
            no.append(f"{name} drifts {o.drift_mm:.0f} mm in 2 s (at most {limits.drift_mm:g} mm).")
        if o.rest_off_mm > limits.rest_differs_mm or o.rest_off_deg > limits.rest_differs_deg:
            warn.append(
                f"{name} rests {o.rest_off_mm:.1f} mm and {o.rest_off_deg:.1f} degrees from the median of the engines "
                f"(over {limits.rest_differs_mm:g} mm or {limits.rest_differs_deg:g} degrees)."
            )
        if o.push_off_mm > limits.push_differs_mm:
            warn.append(
                f"{name} is moved {o.push_mm:.0f} mm by a push, {o.push_off_mm:.0f} mm from the median of the engines "
                f"(over {limits.push_differs_mm:g} mm)."
            )
    return no, warn
