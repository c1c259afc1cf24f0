"""Physics engines and renderers by name: ``physics=NAME`` and ``renderer=NAME``, as Isaac Lab selects them."""

from __future__ import annotations

from isaaclab.utils import configclass
from isaaclab_newton.physics import MJWarpSolverCfg, NewtonCfg
from isaaclab_newton.renderers import NewtonWarpRendererCfg
from isaaclab_ov.physics import OvPhysxCfg
from isaaclab_ov.renderers import OVRTXRendererCfg
from isaaclab_physx.physics import PhysxCfg
from isaaclab_physx.renderers import IsaacRtxRendererCfg
from isaaclab_tasks.utils import PresetCfg


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
            njmax=600,
            nconmax=300,
            use_mujoco_contacts=True,
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
