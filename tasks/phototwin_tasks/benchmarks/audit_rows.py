"""Rows of suite ``reconstruct``: whether twins can be simulated."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from phototwin_tasks.audit.audit import audit_twin
from phototwin_tasks.audit.values import Audit
from phototwin_tasks.benchmarks import Measure
from phototwin_tasks.benchmarks.captures import Bench, Take, complain
from phototwin_tasks.benchmarks.mesh_rows import GIVEN
from phototwin_tasks.benchmarks.size_rows import main_take

ALL = "all captures"
TARGETS = (
    ("objects that fall", "share_falls", "%", "<= 0"),
    ("objects that start in collision", "share_collides", "%", "<= 0"),
    ("mean drift in 2 s", "mean_drift_mm", "mm", "<= 5"),
    ("objects a gripper can grasp", "share_graspable", "%", None),
    ("mean reprojection IoU", "mean_reprojection_iou", "", None),
)


def audit_rows(bench: Bench, names: tuple[str, ...]) -> Iterator[Measure]:
    """Each capture's twin in MuJoCo for two seconds, and the means over all; where masks were given, that twin too: things are stacked in it."""
    captures = [c for c in map(bench.capture, names) if c is not None]
    takes = [(c.name, main_take(bench, c)) for c in captures]
    takes += [(name, take) for (name, method), take in bench.takes.items() if method == GIVEN]
    audits: list[Audit] = []
    for name, take in takes:
        audit = _audit(name, take)
        facts = audit.summary() if audit else {}
        for label, key, unit, aim in TARGETS:
            yield Measure(label, name, _in_unit(facts.get(key, float("nan")), unit), unit, aim, take.method)
        if audit is not None:
            audits.append(audit)
            yield Measure("may be simulated", name, audit.go, "", "== 1", take.method)
    if audits:
        for label, key, unit, aim in TARGETS:
            weights = [len(audit.objects) for audit in audits]
            mean = float(np.average([audit.summary().get(key, 0.0) for audit in audits], weights=weights))
            yield Measure(label, ALL, _in_unit(mean, unit), unit, aim)


def _audit(name: str, take: Take) -> Audit | None:
    """The audit of a twin, or None where there is none; what speaks against it goes to the error stream."""
    if take.scene is None:
        return None
    try:
        audit = audit_twin(take.scene.folder)
    except Exception as error:
        complain(name, take.method, f"{type(error).__name__}: {error}")
        return None
    for reason in audit.reasons:
        complain(name, f"audit, {take.method}", reason)
    return audit


def _in_unit(value: float, unit: str) -> float:
    return 100 * value if unit == "%" else value
