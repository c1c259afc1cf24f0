"""What ``scripts/evaluate.py`` runs: policies on twins, side by side, or over the range of a factor; what to say of it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

from phototwin.console import logged_to
from phototwin.errors import InputError
from phototwin.learn.server_config import ServerConfig, is_server
from phototwin.learn.statistics import compare_paired
from phototwin.output import disk_errors
from phototwin.plan.randomize import load_randomization, sweep
from phototwin.scene import load_scene
from phototwin.view.evaluation import EVALUATION_PAGE, write_evaluation
from phototwin_tasks.evaluate.config import EvalConfig, Evaluation, Known
from phototwin_tasks.evaluate.page import Entry, page_facts, paired
from phototwin_tasks.evaluate.run import attempt_seconds, describe, evaluate, instruction_of, shown_base
from phototwin_tasks.generate.jobs import twin_hash
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
    for twin in twins:
        load_scene(twin)
    hashes, bases = [twin_hash(twin) for twin in twins], {}
    if len(policies) > 1:
        config, bases = alike(config, policies, hashes, server or ServerConfig())
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
                told = {instruction_of(asked, facts, sha256): None for sha256 in hashes}
                if "" in told and is_server(policy):
                    raise InputError(f"The server at '{policy}' does not say what it was taught: give --instruction.")
                evaluation = _one(driver, facts, name, twins, asked, place, said, bases)
                value = values[i] if factor else None
                found.append(Entry(names[number], value, place, evaluation, facts.digest))
            lines += [f"{said}:", *(f"  {line}" for line in describe(evaluation)), f"  {place}"]
            write_evaluation(out / EVALUATION_PAGE, page_facts(found, twins, "; ".join(told), factor))
    for other in found[len(ranges) :]:
        one = next(entry for entry in found if entry.value == other.value)
        lines.append(f"{one.label} against {other.label}: {compare_paired(*paired(one.found, other.found))}")
    return "\n".join([*lines, str(out / EVALUATION_PAGE)]) + "\n"


def alike(
    config: EvalConfig, policies: tuple[str, ...], hashes: Sequence[str], server: ServerConfig
) -> tuple[EvalConfig, dict[str, str]]:
    """What must be the same for policies that are compared: the config with the longest of their times, and where the robot stands on each twin by its SHA-256.

    Raises:
        InputError: They drive other robots or see frames of another shape, for which other attempts are drawn; on a twin they were told different
            things, or the robot stood elsewhere, and nobody says what counts now.
    """
    seconds, drawn_for = config.seconds, {}
    told: dict[str, dict[str, str]] = {sha256: {} for sha256 in hashes}
    stood: dict[str, dict[str, str]] = {sha256: {} for sha256 in hashes}
    for policy in policies:
        with _driven(policy, server) as (_, facts, _):
            seconds = max(seconds, attempt_seconds(config, facts))
            width, height = facts.resolution
            drawn_for[facts.robot, Fraction(width, height)] = f"{policy} ({facts.robot}, frames of {width} x {height})"
            for sha256 in hashes:
                words = instruction_of(config, facts, sha256)
                told[sha256][words] = policy
                stood[sha256][shown_base(facts, sha256, words)] = policy
    if len(drawn_for) > 1:  # places are drawn where the robot reaches and the frame shows them
        raise InputError(
            f"The policies would not meet the same attempts: {', '.join(drawn_for.values())}. Evaluate them apart."
        )
    for what, found, option in (
        ("were told different things", told, "instruction"),
        ("have seen the robot stand at different places", stood, "base"),
    ):
        for each in found.values():
            known = {value: policy for value, policy in each.items() if value}
            if len(known) > 1 and not getattr(config, option):
                said = ", ".join(f"'{value}' ({policy})" for value, policy in known.items())
                raise InputError(f"The policies {what}, {said}: give --{option} to compare them.")
    bases = {sha256: base for sha256, each in stood.items() for base in each if base}
    return replace(config, seconds=seconds), bases


def _check(
    policies: tuple[str, ...],
    twins: tuple[Path, ...],
    factor: str,
    values: tuple[float, ...],
    server: ServerConfig | None,
) -> None:
    if not policies or not twins:
        raise InputError("There is nothing to evaluate: give at least one --policy and one --twin.")
    if values and not factor:
        raise InputError("--values are of a --factor, and none is given.")
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
    driver: Driver,
    facts: Known,
    name: str,
    twins: tuple[Path, ...],
    config: EvalConfig,
    folder: Path,
    said: str,
    bases: dict[str, str],
) -> Evaluation:
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with logged_to(folder / LOG_FILE) as terminal:

            def say(evaluation: Evaluation) -> None:
                terminal.write(f"{said}: {evaluation.rate()}\n")

            return evaluate(driver, facts, name, twins, config, folder, bases=bases, on_batch=say)
