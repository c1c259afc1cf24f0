"""A twin in MuJoCo's C engine: how deep things are in each other, where they come to rest, how they take a push."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

import mujoco
import numpy as np

from phototwin.frames import matrix_from_quat_xyzw, transform
from phototwin.scene import Scene, SceneObject
from phototwin.stage.mjcf import export_mjcf

SETTLE_S = 2.0
PUSH_S = 1.0
"""How long a push is watched: things that slide at ``PUSH_MPS`` stand after 0.1 s, things that roll do not."""
PUSH_MPS = 0.3
"""Speed that a push gives: hard enough to slide by 5 to 20 mm, gentle enough along the longer side to tip nothing over."""
TOUCH_M = 0.02
"""Pairs whose bounding boxes are farther apart than this are not measured."""


@dataclass(frozen=True, eq=False)
class Motion:
    """How the objects of a twin moved in one engine.

    Attributes:
        engine: Its name.
        rest: T_world_object after ``SETTLE_S``, (N, 4, 4) [m].
        pushed: T_world_object of each object ``PUSH_S`` after it alone was pushed at rest, (N, 4, 4) [m].
        failure: Why there is no motion; the arrays are then empty.
    """

    engine: str
    rest: np.ndarray
    pushed: np.ndarray
    failure: str = ""


@dataclass(frozen=True)
class Overlap:
    """The deepest overlap of one object.

    Attributes:
        depth_m: How far the two must be moved apart, 0 where nothing is touched [m].
        other: Key of what it is in, "support", or "".
    """

    depth_m: float
    other: str


def push_directions(scene: Scene) -> np.ndarray:
    """Unit horizontal directions (N, 3) in which each object is pushed: along its longer side, away from the others."""
    centers = np.array([item.T_world_object[:3, 3] for item in scene.objects]).reshape(-1, 3)
    out = np.zeros_like(centers)
    for i, item in enumerate(scene.objects):
        along = item.T_world_object[:3, 0] * (1.0, 1.0, 0.0)
        along /= max(float(np.linalg.norm(along)), 1e-12)
        others = np.delete(centers, i, 0)
        away = centers[i] - others.mean(0) if len(others) else along
        out[i] = along if along @ away >= 0 else -along
    return out


def drift_m(item: SceneObject, rest: np.ndarray) -> float:
    """How far the centre of an object went [m]."""
    return float(np.linalg.norm(rest[:3, 3] - item.T_world_object[:3, 3]))


def tilt_deg(item: SceneObject, rest: np.ndarray) -> float:
    """How far the object's own upright turned [deg]."""
    return float(np.degrees(np.arccos(np.clip(rest[:3, 2] @ item.T_world_object[:3, 2], -1.0, 1.0))))


def falls(item: SceneObject, rest: np.ndarray, fall_m: float, topple_deg: float) -> bool:
    """Whether an object dropped by ``fall_m``, or half its height where that is less, or toppled; a ball cannot topple."""
    dropped = item.T_world_object[2, 3] - rest[2, 3] > min(fall_m, 0.5 * float(item.size_m[2]))
    return bool(dropped or (item.shape != "sphere" and tilt_deg(item, rest) > topple_deg))


class MujocoTwin:
    """A twin compiled for MuJoCo, standing as the photo shows it.

    Attributes:
        scene: The twin.
        model: Its ``MjModel``, without what is only seen.
        data: Its ``MjData``.
    """

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        with tempfile.TemporaryDirectory() as folder:
            spec = mujoco.MjSpec.from_file(str(export_mjcf(scene, Path(folder) / "twin.xml")))
            spec.compiler.discardvisual = True
            self.model = spec.compile()
        self.data = mujoco.MjData(self.model)
        mujoco.mj_forward(self.model, self.data)

    def poses(self) -> np.ndarray:
        """T_world_object of each object as it is, (N, 4, 4) [m]."""
        rows = self.data.qpos.reshape(-1, 7)
        return matrices(np.concatenate([rows[:, :3], np.roll(rows[:, 3:], -1, axis=1)], 1))

    def settle(self) -> np.ndarray:
        """Let ``SETTLE_S`` pass; T_world_object of each object then, (N, 4, 4) [m]."""
        mujoco.mj_step(self.model, self.data, round(SETTLE_S / self.model.opt.timestep))
        mujoco.mj_forward(self.model, self.data)
        return self.poses()

    def push(self) -> np.ndarray:
        """T_world_object (N, 4, 4) of each object ``PUSH_S`` after it alone was pushed; everything then stands as before."""
        rest, out = self.data.qpos.copy(), []
        for i, direction in enumerate(push_directions(self.scene)):
            mujoco.mj_resetData(self.model, self.data)
            self.data.qpos[:] = rest
            self.data.qvel[6 * i : 6 * i + 3] = PUSH_MPS * direction
            mujoco.mj_step(self.model, self.data, round(PUSH_S / self.model.opt.timestep))
            out.append(self.poses()[i])
        mujoco.mj_resetData(self.model, self.data)
        self.data.qpos[:] = rest
        mujoco.mj_forward(self.model, self.data)
        return np.array(out)

    def overlaps(self) -> list[Overlap]:
        """The deepest overlap of each object with another one or the support, over their convex pieces."""
        names = [*(item.key for item in self.scene.objects), "support"]
        low, high, owner, geoms = self._boxes()
        deepest = [Overlap(0.0, "")] * len(names)
        near = (low[:, None] <= high[None] + TOUCH_M).all(-1)
        near &= near.T & (owner[:, None] < owner[None])
        for a, b in np.argwhere(near):
            distance = mujoco.mj_geomDistance(self.model, self.data, geoms[a], geoms[b], TOUCH_M, None)
            for one, other in ((owner[a], owner[b]), (owner[b], owner[a])):
                if -distance > deepest[one].depth_m:
                    deepest[one] = Overlap(-distance, names[other])
        return deepest[:-1]

    def _boxes(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[int]]:
        """Corners (P, 3) and (P, 3) of the box around each piece and the support in the world, its owner (P,), its geom."""
        low, high, owner, geoms = [], [], [], []
        for i, (item, T) in enumerate(zip(self.scene.objects, self.poses(), strict=True)):
            for k, piece in enumerate(item.pieces):
                points = transform(T, np.asarray(piece.points, np.float64))
                low.append(points.min(0))
                high.append(points.max(0))
                owner.append(i)
                geoms.append(self.model.geom(f"{item.key}_piece_{k}").id)
        polygon = self.scene.support.polygon_w
        low.append((*polygon.min(0), -self.scene.support.thickness_m))
        high.append((*polygon.max(0), 0.0))
        owner.append(len(self.scene.objects))
        geoms.append(self.model.geom("support").id)
        return np.array(low), np.array(high), np.array(owner), geoms


def matrices(rows: np.ndarray) -> np.ndarray:
    """Transforms (..., 4, 4) of poses (..., 7): x, y, z, quat_xyzw."""
    T = np.zeros((*rows.shape[:-1], 4, 4))
    T[..., :3, :3], T[..., :3, 3], T[..., 3, 3] = matrix_from_quat_xyzw(rows[..., 3:]), rows[..., :3], 1.0
    return T
