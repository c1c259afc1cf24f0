"""What an audit says: measures of each object, of each engine, limits and verdict; saved as ``audit.json``."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from phototwin.errors import InputError
from phototwin.view.report import AUDIT_FILE

AUDIT_VERSION = 1
SHARES = ("falls", "collides", "graspable")
MEANS = ("drift_mm", "tilt_deg", "penetration_before_mm", "penetration_after_mm", "reprojection_iou")


@dataclass(frozen=True)
class Limits:
    """Where a measure speaks against a scene ("no") or is worth a warning ("warn").

    Attributes:
        collide_mm: No: an object starts deeper than this in another or in the support. Fits and sensors are good to 1 mm.
        fall_m: No: the centre of an object ends lower by more than this, or than half its own height where that is less.
        topple_deg: No: an object ends tilted by more; balls are left out, they may roll.
        drift_mm: No: the centre of an object ends farther away than this.
        tilt_deg: Warn: an object ends tilted by more.
        iou_no: No: an object covers its mask by less than this, so another thing or another place is simulated.
        iou_warn: Warn: the same.
        volume_share: Warn: the pieces' volume differs by more from the surface's.
        rest_differs_mm: Warn: an engine leaves an object this far from where the engines agree.
        rest_differs_deg: Warn: the same for its orientation.
        push_differs_mm: Warn: the same after a push; rolling and friction differ between engines.
    """

    collide_mm: float = 1.0
    fall_m: float = 0.10
    topple_deg: float = 45.0
    drift_mm: float = 10.0
    tilt_deg: float = 2.0
    iou_no: float = 0.5
    iou_warn: float = 0.7
    volume_share: float = 0.03
    rest_differs_mm: float = 2.0
    rest_differs_deg: float = 2.0
    push_differs_mm: float = 10.0


@dataclass(frozen=True)
class ObjectAudit:
    """Measures of one object.

    Attributes:
        name: What people call it.
        key: Its name as an identifier.
        penetration_before_mm: Its deepest overlap with another object or the support as authored.
        penetration_after_mm: The same after two seconds.
        inside: Key of what it starts deepest in, "support", or "".
        collides: Whether that is deeper than ``Limits.collide_mm``.
        falls: Whether it dropped or toppled within two seconds.
        drift_mm: How far its centre went in two seconds.
        tilt_deg: How far its upright turned in two seconds.
        graspable: Whether the gripper has a free grasp of it where it stands.
        grasp_note: Why not, or "".
        reprojection_iou: How well it covers its mask in the photo, 0..1.
        defects: What is wrong with its meshes.
    """

    name: str
    key: str
    penetration_before_mm: float
    penetration_after_mm: float
    inside: str
    collides: bool
    falls: bool
    drift_mm: float
    tilt_deg: float
    graspable: bool
    grasp_note: str
    reprojection_iou: float
    defects: tuple[str, ...]


@dataclass(frozen=True)
class EngineObject:
    """What one engine did with one object. "Off" is relative to the median over the engines.

    Attributes:
        key: Which object.
        falls: Whether it dropped or toppled within two seconds.
        drift_mm: How far its centre went in two seconds.
        tilt_deg: How far its upright turned in two seconds.
        push_mm: How far a push moved its centre.
        rest_off_mm: Distance of its place of rest from the median.
        rest_off_deg: Angle between its orientation at rest and the most central one.
        push_off_mm: Difference of its displacement by the push from the median.
        push_off_deg: Difference of its turn by the push from the most central one.
    """

    key: str
    falls: bool
    drift_mm: float
    tilt_deg: float
    push_mm: float
    rest_off_mm: float = 0.0
    rest_off_deg: float = 0.0
    push_off_mm: float = 0.0
    push_off_deg: float = 0.0


@dataclass(frozen=True)
class EngineResult:
    """What one engine did with a twin.

    Attributes:
        engine: Its name.
        failure: Why it did nothing, or "".
        objects: One for each object of the twin, none after a failure.
    """

    engine: str
    failure: str
    objects: tuple[EngineObject, ...]


@dataclass(frozen=True)
class Audit:
    """Sim-readiness of one twin.

    Attributes:
        scene: Name of the scene.
        reasons: What speaks against using it, one sentence each.
        warnings: What to know about it.
        objects: Measures of each object.
        usd_issues: What the asset validator holds against ``twin.usda``; None where it was not asked.
        engines: What each physics engine did with it.
        robot: Whose gripper was tried.
        limits: Where measures become reasons.
    """

    scene: str
    reasons: tuple[str, ...]
    warnings: tuple[str, ...]
    objects: tuple[ObjectAudit, ...]
    usd_issues: tuple[str, ...] | None
    engines: tuple[EngineResult, ...]
    robot: str
    limits: Limits = Limits()

    @property
    def go(self) -> bool:
        """Whether nothing speaks against the scene."""
        return not self.reasons

    def summary(self) -> dict[str, float]:
        """Shares 0..1 of the objects that fall, collide and can be grasped, and means over the objects; empty without objects."""
        if not self.objects:
            return {}
        shares = {f"share_{name}": float(np.mean([getattr(o, name) for o in self.objects])) for name in SHARES}
        return shares | {f"mean_{name}": float(np.mean([getattr(o, name) for o in self.objects])) for name in MEANS}


def save_audit(audit: Audit, folder: Path) -> Path:
    """Write ``audit.json`` into ``folder``; the same audit gives the same bytes."""
    value = {"version": AUDIT_VERSION, "go": audit.go, "summary": audit.summary()} | asdict(audit)
    file, partial = folder / AUDIT_FILE, folder / f".{AUDIT_FILE}.partial"
    partial.write_text(json.dumps(value, indent=1) + "\n")
    os.replace(partial, file)
    return file


def load_audit(folder: Path) -> Audit:
    """The audit that ``save_audit`` wrote into ``folder``.

    Raises:
        InputError: There is none, or it is of another version.
    """
    file = folder / AUDIT_FILE
    try:
        value = json.loads(file.read_text())
        if value["version"] != AUDIT_VERSION:
            raise ValueError(f"version {value['version']}, this program reads {AUDIT_VERSION}")
        return Audit(
            scene=value["scene"],
            reasons=tuple(value["reasons"]),
            warnings=tuple(value["warnings"]),
            objects=tuple(ObjectAudit(**o | {"defects": tuple(o["defects"])}) for o in value["objects"]),
            usd_issues=None if value["usd_issues"] is None else tuple(value["usd_issues"]),
            engines=tuple(
                EngineResult(e["engine"], e["failure"], tuple(EngineObject(**o) for o in e["objects"]))
                for e in value["engines"]
            ),
            robot=value["robot"],
            limits=Limits(**value["limits"]),
        )
    except (OSError, KeyError, ValueError, TypeError) as error:
        raise InputError(f"'{file}' cannot be read as an audit ({error}): run scripts/audit.py again.") from error
