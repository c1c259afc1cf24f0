"""Let policies drive twins, closed loop on blended frames: success with intervals, failures by class, films.

./isaaclab.sh -p scripts/evaluate.py --policy out/desk_bc --twin out/desk/twin
./isaaclab.sh -p scripts/evaluate.py --policy out/a --policy out/b --twin out/desk/twin     the same attempts, paired test
./isaaclab.sh -p scripts/evaluate.py --policy out/a --twin out/desk/twin --half-width 0.05  stop when that is known
./isaaclab.sh -p scripts/evaluate.py --policy out/a --twin out/desk/twin --factor camera_turn_deg --values 0 1 2 4
./isaaclab.sh -p scripts/evaluate.py --policy ws://localhost:8000 --twin out/desk/twin      a policy behind a server (openpi's protocol)
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Annotated

import tyro

from phototwin.console import run_script
from phototwin.learn.server_config import ServerConfig


@dataclass(frozen=True)
class Args:
    """Command line of evaluate.py.

    Attributes:
        policy: Folder of a training, or address of a policy server (ws://HOST:PORT); several times to compare.
        twin: Folder of a twin; several times for several.
        out: Where evaluation.html, evaluation.json, films and the log go.
        instruction: What to do; what the policy was shown when not given.
        episodes: Attempts on each twin.
        seed: Of the attempts; none of them was in a training.
        half_width: Stop as soon as success on the twin is known this well to either side; 0 does all attempts.
        confidence: Of the intervals.
        seconds: Time for an attempt; 0 is twice what demonstrations took.
        shove_m_s: Shove the object once in each attempt with this speed.
        randomize: Ranges of what attempts vary: none, default, wide, or a JSON file.
        factor: A factor of docs/randomization.md whose --values are tried one after another.
        values: Those values.
        num_envs: Attempts side by side.
        physics: ovphysx, newton_mjwarp or isaacsim_physx.
        renderer: warp_raster, path_traced, pasted, plain, newton_warp, ovrtx or isaacsim_rtx.
        device: cpu or cuda:0.
        query: What finds the parts of things that the instruction names, as of generate.py.
        base: Where the robot stands, as in generate.py.
        videos: So many failures and as many successes of each twin are filmed, every class of failures where there is room.
        server: How a policy server is spoken to where its metadata does not say so.
    """

    policy: Annotated[tuple[str, ...], tyro.conf.UseAppendAction]
    twin: Annotated[tuple[Path, ...], tyro.conf.UseAppendAction]
    out: Path = Path("out/evaluation")
    instruction: str = ""
    episodes: int = 100
    seed: int = 0
    half_width: float = 0.0
    confidence: float = 0.95
    seconds: float = 0.0
    shove_m_s: float = 0.0
    randomize: str = "default"
    factor: str = ""
    values: tuple[float, ...] = ()
    num_envs: int = 16
    physics: str = "ovphysx"
    renderer: str = "warp_raster"
    device: str = "cpu"
    query: str = "words"
    base: str = ""
    videos: int = 4
    server: ServerConfig = field(default_factory=ServerConfig)


def main(args: Args) -> int:
    """Evaluate; returns the exit status."""
    from phototwin_tasks.evaluate.config import EvalConfig
    from phototwin_tasks.evaluate.job import run_evaluation

    config = EvalConfig(**{each.name: getattr(args, each.name) for each in fields(EvalConfig)})
    said = run_evaluation(args.policy, args.twin, config, args.out, args.factor, args.values, args.server)
    sys.stdout.write(said)
    return 0


if __name__ == "__main__":
    run_script(Args, main)
