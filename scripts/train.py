"""Train a policy on demonstrations: our small cloning network, LeRobot's ACT or its Diffusion Policy.

./isaaclab.sh -p scripts/train.py out/desk --out out/desk_bc
./isaaclab.sh -p scripts/train.py out/desk out/bench --policy.kind act --steps 4000 --out out/act
./isaaclab.sh -p scripts/train.py out/desk --out out/desk_bc --resume
./isaaclab.sh -p scripts/train.py out/desk --out out/rounds --rounds 3 --twin out/desk/twin     the student drives, the planner takes over
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from phototwin.console import run_script
from phototwin.errors import InputError
from phototwin.learn.config import PolicyConfig


@dataclass(frozen=True)
class Args:
    """Command line of train.py.

    Attributes:
        data: Folders of runs of generate.py, or of LeRobot datasets, of one robot.
        out: Folder of the policy.
        policy: What kind of policy.
        demos: So many episodes of each dataset; all when not given.
        steps: Steps of the optimiser.
        batch: Frames a step.
        lr: Largest learning rate.
        jitter: Brightness and contrast of frames vary by up to this share.
        state_noise_m: The tool's place is shown wrong by a normal draw of this deviation along every axis [m].
        turn_deg: The camera of each frame is turned by up to this about every axis; 0 for never.
        seed: Of every random choice.
        threads: Of torch; 0 leaves them as they are.
        precision: auto, float32 or bfloat16.
        device: cpu or cuda:0.
        rounds: On-policy rounds after the first policy: in each the student drives the twin for a while, the planner takes over, and the student learns from that too.
        twin: Folder of the twin for the rounds.
        round_demos: Takeovers in each round.
        round_steps: Training steps in each round.
        round_randomize: Ranges of what rounds vary: none, default, wide, or a JSON file.
        round_query: What finds the parts of things that the instruction names, as of generate.py.
        resume: Go on with a training that was interrupted in this folder.
    """

    data: Annotated[tuple[Path, ...], tyro.conf.Positional]
    out: Path
    policy: PolicyConfig = field(default_factory=PolicyConfig)
    demos: int | None = None
    steps: int = 3000
    batch: int = 64
    lr: float = 1e-3
    jitter: float = 0.2
    state_noise_m: float = 0.0
    turn_deg: float = 1.5
    seed: int = 0
    threads: int = 0
    precision: str = "auto"
    device: str = "cpu"
    rounds: int = 0
    twin: Path | None = None
    round_demos: int = 50
    round_steps: int = 1000
    round_randomize: str = "default"
    round_query: str = "words"
    resume: bool = False


def main(args: Args) -> int:
    """Train; returns the exit status."""
    from phototwin.learn.config import TrainConfig
    from phototwin.learn.job import run_training

    config = TrainConfig(
        args.policy,
        steps=args.steps,
        batch=args.batch,
        lr=args.lr,
        jitter=args.jitter,
        state_noise_m=args.state_noise_m,
        turn_deg=args.turn_deg,
        seed=args.seed,
        threads=args.threads,
        precision=args.precision,
        device=args.device,
    )
    if args.rounds:
        from phototwin_tasks.evaluate.config import EvalConfig
        from phototwin_tasks.rounds import RoundsConfig, run_rounds

        if args.twin is None:
            raise InputError("--rounds needs --twin, the folder of the twin that the student drives.")
        environment = EvalConfig(randomize=args.round_randomize, query=args.round_query)
        rounds = RoundsConfig(args.rounds, args.round_demos, args.round_steps, args.seed, environment=environment)
        sys.stdout.write(run_rounds(args.data, args.twin, config, rounds, args.out, args.demos))
        return 0
    sys.stdout.write(run_training(args.data, config, args.out, args.demos, args.resume))
    return 0


if __name__ == "__main__":
    run_script(Args, main)
