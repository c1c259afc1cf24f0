"""What ``scripts/audit.py`` runs: the audit, its files, and a table for the terminal."""

from __future__ import annotations

from pathlib import Path

from phototwin.console import logged_to
from phototwin.output import disk_errors
from phototwin.scene import load_scene
from phototwin.view.report import write_report
from phototwin_tasks.audit.audit import audit_twin
from phototwin_tasks.audit.values import Audit, save_audit

AUDIT_LOG = "audit.log"
"""Where the audit sends what engines and libraries print."""


def run_audit(twin: Path, engines: tuple[str, ...], robot: str, export: Path | None) -> tuple[bool, str]:
    """Audit a twin, write ``audit.json`` and ``report.html`` into it, and its models where asked; returns go and what to print.

    Raises:
        TwinError: There is no twin, an engine or robot is unknown, or a file cannot be written.
    """
    scene = load_scene(twin)
    with disk_errors(twin), logged_to(twin / AUDIT_LOG):
        audit = audit_twin(twin, engines, robot)
        save_audit(audit, twin)
        write_report(twin, twin)
    text = describe(audit) + f"  {twin / 'audit.json'}   every measure\n  {twin / 'report.html'}   open in a browser\n"
    if export:
        from phototwin.stage.mjcf import export_mjcf
        from phototwin.stage.urdf import export_urdf

        export_urdf(scene, export)
        text += f"  {export_mjcf(scene, export / 'twin.xml')}   MuJoCo; one URDF per object beside it\n"
    return audit.go, text


def describe(audit: Audit) -> str:
    """The audit as a table and sentences."""
    head = f"{'object':<22} {'inside':>8} {'drift':>8} {'tilt':>7} {'IoU':>5}  grasp\n"
    rows = [
        f"{o.name:<22.22} {o.penetration_before_mm:>5.2f} mm {o.drift_mm:>5.1f} mm {o.tilt_deg:>4.1f} dg "
        f"{o.reprojection_iou:>5.2f}  {'yes' if o.graspable else 'no'}\n"
        for o in audit.objects
    ]
    lines = [f"  no-go: {text}\n" for text in audit.reasons] + [f"  note: {text}\n" for text in audit.warnings]
    engines = [
        f"{result.engine:<22} at rest {_worst(result.objects, 'rest_off_mm'):.1f} mm and "
        f"{_worst(result.objects, 'rest_off_deg'):.1f} degrees from the median of the engines at most, "
        f"pushed {_worst(result.objects, 'push_off_mm'):.1f} mm\n"
        for result in audit.engines
        if not result.failure and len(audit.engines) > 1
    ]
    return "".join([f"{audit.scene}: {'GO' if audit.go else 'NO-GO'}\n", head, *rows, *engines, *lines])


def _worst(objects: tuple, name: str) -> float:
    return max((getattr(o, name) for o in objects), default=0.0)
