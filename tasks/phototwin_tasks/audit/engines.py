"""The same twin in several physics engines, each in a process of its own, and how far they differ."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np

from phototwin.scene import Scene
from phototwin_tasks.audit.rest import Motion, drift_m, falls, tilt_deg
from phototwin_tasks.audit.values import EngineObject, EngineResult, Limits

ENGINES = ("mujoco", "ovphysx", "newton_mjwarp")
TIMEOUT_S = 600.0
"""Newton compiles its kernels in the first minutes on a new machine."""
SHOWN_ERROR = 300
"""Characters of what a crashed engine said last."""


def run_engine(twin: Path, engine: str, timeout_s: float = TIMEOUT_S) -> Motion:
    """Let Isaac Lab simulate a twin with one of its engines in a new process; a crash becomes the motion's ``failure``."""
    nothing = np.zeros((0, 4, 4))
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "motion.npz"
        command = [sys.executable, "-m", "phototwin_tasks.audit.simulate", str(twin.resolve()), engine, str(file)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, check=False)
        except subprocess.TimeoutExpired:
            return Motion(engine, nothing, nothing, f"it did not end within {timeout_s:.0f} s.")
        if file.is_file():
            with np.load(file) as arrays:
                return Motion(engine, arrays["rest"], arrays["pushed"])
        said = [line for line in (done.stderr + done.stdout).splitlines() if line.strip()]
        last = said[-1][-SHOWN_ERROR:] if said else "it said nothing"
        return Motion(engine, nothing, nothing, f"its process ended with status {done.returncode}: {last}")


def compare_engines(scene: Scene, motions: list[Motion], limits: Limits) -> tuple[EngineResult, ...]:
    """What each engine did with each object, and how far that is from the median of the engines."""
    whole = [motion for motion in motions if not motion.failure]
    rows = {motion.engine: [_row(scene, motion, i, limits) for i in range(len(scene.objects))] for motion in whole}
    for i in range(len(scene.objects)):
        rest = np.array([motion.rest[i] for motion in whole])
        # A push is judged by what it did, wherever the thing had come to rest.
        pushed = np.array([motion.pushed[i] for motion in whole])
        turn = pushed[:, :3, :3] @ np.swapaxes(rest[:, :3, :3], 1, 2)
        columns = (
            _from_median(rest[:, :3, 3]),
            _from_center_deg(rest[:, :3, :3]),
            _from_median(pushed[:, :3, 3] - rest[:, :3, 3]),
            _from_center_deg(turn),
        )
        for motion, (rest_mm, rest_deg, push_mm, push_deg) in zip(whole, zip(*columns, strict=True), strict=True):
            rows[motion.engine][i] = replace(
                rows[motion.engine][i],
                rest_off_mm=rest_mm,
                rest_off_deg=rest_deg,
                push_off_mm=push_mm,
                push_off_deg=push_deg,
            )
    return tuple(EngineResult(m.engine, m.failure, tuple(rows.get(m.engine, ()))) for m in motions)


def _row(scene: Scene, motion: Motion, i: int, limits: Limits) -> EngineObject:
    item, rest = scene.objects[i], motion.rest[i]
    return EngineObject(
        key=item.key,
        falls=falls(item, rest, limits.fall_m, limits.topple_deg),
        drift_mm=1000 * drift_m(item, rest),
        tilt_deg=tilt_deg(item, rest),
        push_mm=1000 * float(np.linalg.norm(motion.pushed[i, :3, 3] - rest[:3, 3])),
    )


def _from_median(points: np.ndarray) -> list[float]:
    """Distance [mm] of each of the points (E, 3) from their median."""
    return (1000 * np.linalg.norm(points - np.median(points, 0), axis=1)).tolist()


def _from_center_deg(rotations: np.ndarray) -> list[float]:
    """Angle [deg] between each rotation (E, 3, 3) and the one that is closest to all of them."""
    trace = np.einsum("aij,bij->ab", rotations, rotations)
    angles = np.degrees(np.arccos(np.clip((trace - 1) / 2, -1, 1)))
    return angles[angles.sum(0).argmin()].tolist()
