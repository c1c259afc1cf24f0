"""Measure the product: a table on the terminal, JSON on request, exit status 1 where a target is missed.

./isaaclab.sh -p scripts/benchmark.py main --data ../shared/data --json main.json
./isaaclab.sh -p scripts/benchmark.py reconstruct --data ../shared/data --json reconstruct.json
./isaaclab.sh -p scripts/benchmark.py reconstruct --data ../shared/data --quick
./isaaclab.sh -p scripts/benchmark.py blend --json blend.json
./isaaclab.sh -p scripts/benchmark.py kernels --json kernels.json
./isaaclab.sh -p scripts/benchmark.py generate --data ../shared/data --json generate.json
./isaaclab.sh -p scripts/benchmark.py rl --data ../shared/data --json rl.json
./isaaclab.sh -p scripts/benchmark.py learn --quick --json learn.json
./isaaclab.sh -p scripts/benchmark.py learn --data ../shared/data --work out/learn --json learn.json   hours; goes on where it was interrupted
./isaaclab.sh -p scripts/benchmark.py learn --parts rounds looks --data ../shared/data --work out/learn
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from phototwin.console import run_script


@dataclass(frozen=True)
class Args:
    """Command line of benchmark.py.

    Attributes:
        suite: What to measure: main (photo to demonstrations), reconstruct (how true twins are), blend (how true and how fast frames are), kernels (planning kernels), generate (yield, cost and safety of demonstrations), rl (what PPO learns) or learn (policies, rounds, looks, datasets; hours).
        data: Folder of real captures; scenes that are not there are left out.
        json: File for the measures.
        quick: End within minutes on a smaller set.
        work: Keep demonstrations, policies and evaluations there, and do not make again what is there (learn).
        parts: Measure these alone (learn): nothing, lift, place, rounds, looks, mix, data, intervals.
    """

    suite: Annotated[str, tyro.conf.Positional]
    data: Path | None = None
    json: Path | None = None
    quick: bool = False
    work: Path | None = None
    parts: tuple[str, ...] = ()


def main(args: Args) -> int:
    """Run one suite; returns 1 where a target is missed."""
    from phototwin_tasks.benchmarks import run_suite

    return run_suite(args.suite, args.data, args.json, args.quick, args.work, args.parts)


if __name__ == "__main__":
    run_script(Args, main)
