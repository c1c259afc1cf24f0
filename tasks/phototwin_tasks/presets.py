"""Physics engines and renderers by name: ``physics=NAME`` and ``renderer=NAME``, as Isaac Lab selects them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from isaaclab.utils import configclass
from isaaclab_newton.physics import MJWarpSolverCfg, NewtonCfg
from isaaclab_newton.renderers import NewtonWarpRendererCfg
from isaaclab_ov.physics import OvPhysxCfg
from isaaclab_ov.renderers import OVRTXRendererCfg
from isaaclab_physx.physics import PhysxCfg
from isaaclab_physx.renderers import IsaacRtxRendererCfg
from isaaclab_tasks.utils import PresetCfg

if TYPE_CHECKING:
    from phototwin.scene import Scene


CONTACTS_PER_PIECE = 4
"""A flat bottom on the table."""
SPARE_CONTACTS = 100
"""Two fingers on an object, and one object in or on another."""
SPARE_PER_PIECE = 4
"""A gripper at a rim or a handle meets several pieces of an object, each with points of its own."""
ROWS_PER_CONTACT = 4
"""Of an elliptic cone with torsional friction (condim 4)."""
SPARE_ROWS = 24
"""Joint limits and drives."""
TOUCHING_M = 0.002


def size_contacts(physics: Any, twin: Scene) -> None:
    """Give MuJoCo Warp room for the contacts of a twin, and little more: on a CPU its time grows with the room, used or not.

    Too little room drops contacts: things fall through the table.
    """
    solver = getattr(physics, "solver_cfg", None)
    if not isinstance(solver, MJWarpSolverCfg):
        return
    touching = 0
    for item in twin.objects:
        bottom = item.mesh.points[:, 2].min()
        touching += sum(bool(piece.points[:, 2].min() < bottom + TOUCHING_M) for piece in item.pieces)
    most = max((len(item.pieces) for item in twin.objects), default=0)
    solver.nconmax = CONTACTS_PER_PIECE * touching + SPARE_CONTACTS + SPARE_PER_PIECE * most
    solver.njmax = ROWS_PER_CONTACT * solver.nconmax + SPARE_ROWS


@configclass
class PhysicsPresetCfg(PresetCfg):
    """PhysX as a library (the fast lane on a CPU), the open Newton with MuJoCo Warp, or PhysX inside Isaac Sim."""

    ovphysx: OvPhysxCfg = OvPhysxCfg(enable_enhanced_determinism=True)
    # An elliptic cone with a high impratio is what holds objects between two fingers by friction alone.
    newton_mjwarp: NewtonCfg = NewtonCfg(
        solver_cfg=MJWarpSolverCfg(
            solver="newton",
            integrator="implicitfast",
            cone="elliptic",
            impratio=10.0,
            iterations=50,
            ls_iterations=50,
            # Newton's own contacts: MuJoCo Warp's let light stacked cubes tremble at 5 cm/s and take twice as long.
            use_mujoco_contacts=False,
        ),
        num_substeps=2,
        use_cuda_graph=False,
    )
    isaacsim_physx: PhysxCfg = PhysxCfg(bounce_threshold_velocity=0.2, enable_enhanced_determinism=True)
    default: OvPhysxCfg = ovphysx


@configclass
class RendererPresetCfg(PresetCfg):
    """Newton's ray caster (any machine), OVRTX (path tracing as a library) or Isaac Sim's RTX."""

    newton_warp: NewtonWarpRendererCfg = NewtonWarpRendererCfg(use_cuda_graph=False)
    ovrtx: OVRTXRendererCfg = OVRTXRendererCfg()
    isaacsim_rtx: IsaacRtxRendererCfg = IsaacRtxRendererCfg()
    default: NewtonWarpRendererCfg = newton_warp
