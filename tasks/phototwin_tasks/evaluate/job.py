"""What ``scripts/evaluate.py`` runs: policies on twins, side by side, or over the range of a factor; what to say of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

from phototwin.console import logged_to
from phototwin.errors import InputError
from phototwin.learn.server_config import ServerConfig, is_server
from phototwin.learn.statistics import compare_paired
from phototwin.output import disk_errors
from phototwin.plan.randomize import load_randomization, sweep
from phototwin.view.evaluation import EVALUATION_PAGE, write_evaluation
from phototwin_tasks.evaluate.config import EvalConfig, Evaluation, Known
from phototwin_tasks.evaluate.page import Entry, page_facts, paired
from phototwin_tasks.evaluate.run import attempt_seconds, describe, evaluate, instruction_of
from phototwin_tasks.student import STUDENT_FILE, load_student

if TYPE_CHECKING:
    from phototwin_tasks.evaluate.drive import Driver

LOG_FILE = "evaluation.log"


def run_evaluation(
    policies: tuple[str, ...],
    twins: tuple[Path, ...],
    config: EvalConfig,
    out: Path,
    factor: str = "",
    values: tuple[float, ...] = (),
    server: ServerConfig | None = None,
) -> str:
    """Evaluate policies on the same attempts; what to say at the end.

    Args:
        policies: Folders of trainings or distillations, or addresses of policy servers.
        twins: Folders of twins.
        config: What is asked for.
        out: Where the page goes, and each evaluation, in a folder of its own where there are several.
        factor: A factor of randomisation whose values are tried one after another; empty for none.
        values: Those values.
        server: How servers are spoken to where they do not say so themselves.

    Raises:
        TwinError: Nothing to evaluate, or what was asked for makes no sense.
    """
    _check(policies, twins, factor, values, server)
    if len(policies) > 1:
        config = alike(config, policies, server or ServerConfig())
    ranges = [config.randomize]
    if factor:
        ranges = [json.dumps(asdict(each)) for each in sweep(load_randomization(config.randomize), factor, values)]
    names, lines = _labels(policies), []
    found: list[Entry] = []
    for number, policy in enumerate(policies):
        for i, given in enumerate(ranges):
            part = [f"{number}_{names[number]}"] if len(policies) > 1 else []
            place = out.joinpath(*part, *([f"{factor}_{values[i]:g}"] if factor else []))
            said = names[number] + (f", {factor} = {values[i]:g}" if factor else "")
            asked = replace(config, randomize=given)
            with _driven(policy, server or ServerConfig()) as (driver, facts, name):
                told = instruction_of(asked, facts)
                if not told and is_server(policy):
                    raise InputError(f"The server at '{policy}' does not say what it was taught: give --instruction.")
                evaluation = _one(driver, facts, name, twins, asked, place, said)
                value = values[i] if factor else None
                found.append(Entry(names[number], value, place, evaluation, facts.digest))
            lines += [f"{said}:", *(f"  {line}" for line in describe(evaluation)), f"  {place}"]
            write_evaluation(out / EVALUATION_PAGE, page_facts(found, twins, told, factor))
    for other in found[len(ranges) :]:
        one = next(entry for entry in found if entry.value == other.value)
        lines.append(f"{one.label} against {other.label}: {compare_paired(*paired(one.found, other.found))}")
    return "\n".join([*lines, str(out / EVALUATION_PAGE)]) + "\n"


def alike(config: EvalConfig, policies: tuple[str, ...], server: ServerConfig) -> EvalConfig:
    """The config with what must be the same for policies that are compared: the words, and the time, which is the longest of theirs.

    Raises:
        InputError: They were told different things, and nobody says what they are to do now.
    """
    told, seconds = {}, config.seconds
    for policy in policies:
        with _driven(policy, server) as (_, facts, _):
            told[instruction_of(config, facts)] = policy
            seconds = max(seconds, attempt_seconds(config, facts))
    if len(told) > 1:
        said = ", ".join(f"'{words}' ({policy})" for words, policy in told.items())
        raise InputError(f"The policies were told different things, {said}: give --instruction to compare them.")
    return replace(config, seconds=seconds, instruction=next(iter(told)))


def _check(
    policies: tuple[str, ...],
    twins: tuple[Path, ...],
    factor: str,
    values: tuple[float, ...],
    server: ServerConfig | None,
) -> None:
    if not policies or not twins:
        raise InputError("There is nothing to evaluate: give at least one --policy and one --twin.")
    if factor and not values:
        raise InputError(f"--factor {factor} needs --values to try.")
    if server not in (None, ServerConfig()) and not any(map(is_server, policies)):
        raise InputError("--server... is for policies behind an address (--policy ws://HOST:PORT), and none is given.")


def _labels(policies: tuple[str, ...]) -> list[str]:
    """A short name for each policy; with numbers where they are alike."""
    found = [policy.partition("://")[2].strip("/") if is_server(policy) else Path(policy).name for policy in policies]
    plain = ["".join(c if c.isalnum() or c in "-_." else "_" for c in name) for name in found]
    return [f"{name}_{i + 1}" if plain.count(name) > 1 else name for i, name in enumerate(plain)]


@contextmanager
def _driven(policy: str, server: ServerConfig) -> Iterator[tuple[Driver, Known, str]]:
    """What drives, what is known of it, and its name."""
    if is_server(policy):
        from phototwin.learn.remote import RemotePolicy

        with closing(RemotePolicy(policy, server)) as remote:
            yield remote, remote.facts, policy
        return
    from phototwin.learn.policy import load_policy
    from phototwin_tasks.evaluate.drivers import PolicyDriver, StudentDriver

    if (Path(policy) / STUDENT_FILE).is_file():
        program, known = load_student(Path(policy))
        yield StudentDriver(program), known, str(Path(policy).resolve())
        return
    made, facts = load_policy(Path(policy))
    yield PolicyDriver(made, facts), facts, str(Path(policy).resolve())


def _one(
    driver: Driver, facts: Known, name: str, twins: tuple[Path, ...], config: EvalConfig, folder: Path, said: str
) -> Evaluation:
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with logged_to(folder / LOG_FILE) as terminal:

            def say(evaluation: Evaluation) -> None:
                terminal.write(f"{said}: {evaluation.rate()}\n")

            return evaluate(driver, facts, name, twins, config, folder, on_batch=say)
