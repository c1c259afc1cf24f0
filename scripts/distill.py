"""Teach what an RL expert does from states to a student that sees the photo's camera (rsl_rl's distillation).

isaaclab train --rl_library rsl_rl --task PhotoTwin-Lift-Panda env.twin=DIR "env.instruction=pick up the cube"      the expert
./isaaclab.sh -p scripts/distill.py --expert logs/rsl_rl/phototwin_lift/RUN/model_121.pt --twin DIR --instruction "pick up the cube" --out out/student
./isaaclab.sh -p scripts/evaluate.py --policy out/student --twin DIR
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, fields
from pathlib import Path

from phototwin.console import run_script


@dataclass(frozen=True)
class Args:
    """Command line of distill.py.

    Attributes:
        expert: Checkpoint of the expert (rsl_rl), of the same task on the same twin.
        twin: Folder of the twin.
        out: Folder of the student, with checkpoints, TensorBoard's log and what was printed.
        instruction: What to do; the family's default on the twin when not given.
        family: Family of the task: lift, place, stack, push, pour, upright or sequence.
        robot: Short name of the robot.
        iterations: How long: 64 control steps of every environment each, then the student learns from them.
        num_envs: Environments side by side.
        episode_s: Time of an episode; 0 is the family's.
        image_px: Side of the frames.
        seed: Of every random choice.
        randomize: Ranges of what attempts vary: none, default, wide, or a JSON file.
        randomize_pool: So many attempts are drawn once and used again and again; 0 draws every attempt when it comes.
        physics: ovphysx, newton_mjwarp or isaacsim_physx.
        device: cpu or cuda:0.
        resume: Go on with a distillation that was interrupted in this folder, or to more iterations.
    """

    expert: Path
    twin: Path
    out: Path
    instruction: str = ""
    family: str = "lift"
    robot: str = "panda"
    iterations: int = 36
    num_envs: int = 32
    episode_s: float = 0.0
    image_px: int = 64
    seed: int = 0
    randomize: str = "default"
    randomize_pool: int = 0
    physics: str = "ovphysx"
    device: str = "cpu"
    resume: bool = False


def main(args: Args) -> int:
    """Distil; returns the exit status."""
    from phototwin_tasks.distill import run_distillation
    from phototwin_tasks.student import DistillConfig

    config = DistillConfig(**{each.name: getattr(args, each.name) for each in fields(DistillConfig)})
    sys.stdout.write(run_distillation(args.expert, args.twin, config, args.out, args.resume))
    return 0


if __name__ == "__main__":
    run_script(Args, main)
