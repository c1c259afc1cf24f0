"""What ``scripts/evaluate.py`` runs: policies on twins, side by side, or over the range of a factor; what to say of it."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

from phototwin.console import logged_to
from phototwin.errors import InputError
from phototwin.learn.statistics import compare_paired
from phototwin.output import disk_errors
from phototwin.plan.randomize import load_randomization, sweep
from phototwin_tasks.evaluate.config import EvalConfig, Evaluation
from phototwin_tasks.evaluate.run import describe, evaluate

LOG_FILE = "evaluation.log"


def run_evaluation(
    policies: tuple[Path, ...],
    twins: tuple[Path, ...],
    config: EvalConfig,
    out: Path,
    factor: str = "",
    values: tuple[float, ...] = (),
) -> str:
    """Evaluate policies on the same attempts; what to say at the end.

    Args:
        policies: Folders of trainings.
        twins: Folders of twins.
        config: What is asked for.
        out: Where each evaluation goes, in a folder of its own where there are several.
        factor: A factor of randomisation whose values are tried one after another; empty for none.
        values: Those values.

    Raises:
        TwinError: Nothing to evaluate, or what was asked for makes no sense.
    """
    if not policies or not twins:
        raise InputError("There is nothing to evaluate: give at least one --policy and one --twin.")
    ranges = [config.randomize]
    if factor:
        if not values:
            raise InputError(f"--factor {factor} needs --values to try.")
        ranges = [json.dumps(asdict(each)) for each in sweep(load_randomization(config.randomize), factor, values)]
    lines: list[str] = []
    found: list[list[Evaluation]] = []
    for policy in policies:
        found.append([])
        for i, given in enumerate(ranges):
            place = _place(out, policies, policy, f"{factor}_{values[i]:g}" if factor else "")
            said = f"{policy.name}" + (f", {factor} = {values[i]:g}" if factor else "")
            found[-1].append(_one(policy, twins, replace(config, randomize=given), place, said))
            lines += [f"{said}:", *(f"  {line}" for line in describe(found[-1][-1])), f"  {place}"]
    for second, others in zip(policies[1:], found[1:], strict=True):
        for one, other in zip(found[0], others, strict=True):
            count = min(len(one.rows), len(other.rows))
            pairs = [[row.success for row in each.rows[:count]] for each in (one, other)]
            lines.append(f"{policies[0].name} against {second.name}: {compare_paired(*pairs)}")
    return "\n".join(lines) + "\n"


def _place(out: Path, policies: tuple[Path, ...], policy: Path, value: str) -> Path:
    """Folder of one evaluation among several."""
    parts = [f"{policies.index(policy)}_{policy.name}"] if len(policies) > 1 else []
    return out.joinpath(*parts, *([value] if value else []))


def _one(policy: Path, twins: tuple[Path, ...], config: EvalConfig, folder: Path, said: str) -> Evaluation:
    from phototwin.learn.policy import load_policy
    from phototwin_tasks.evaluate.drivers import PolicyDriver

    made, facts = load_policy(policy)
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with logged_to(folder / LOG_FILE) as terminal:

            def say(evaluation: Evaluation) -> None:
                terminal.write(f"{said}: {evaluation.rate()}\n")

            name = str(policy.resolve())
            return evaluate(PolicyDriver(made, facts), facts, name, twins, config, folder, on_batch=say)
