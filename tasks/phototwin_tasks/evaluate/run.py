"""A policy on twins, batch by batch, written down after each: what ``scripts/evaluate.py`` runs."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from phototwin.data.store import write_bytes
from phototwin.errors import InputError
from phototwin.learn.config import told
from phototwin.learn.statistics import narrow_enough
from phototwin.plan.randomize import PRESETS
from phototwin.scene import load_scene
from phototwin_tasks.evaluate.config import UNSEEN, EvalConfig, Evaluation, Known, Row, check_eval
from phototwin_tasks.evaluate.films import failure_word, film_file, filmed, kept_films
from phototwin_tasks.generate.config import GenerateConfig, complete_config, randomization
from phototwin_tasks.generate.jobs import DERIVED_FROM, Job, tasks_of, twin_hash
from phototwin_tasks.generate.schedule import Shard

if TYPE_CHECKING:
    from phototwin.episode import Episode
    from phototwin_tasks.evaluate.drive import Driver

EVALUATION_FILE = "evaluation.json"
OTHER = {
    "policy_sha256": "the policy was trained again",
    "twins": "another twin",
    "instructions": "other words",
    "bases": "the robot stands elsewhere",
    "config": "other settings",
}
"""What is said of an evaluation that differs in this from the one that is asked for."""
TIMES = 2.0
"""A policy has so many times as long as demonstrations took."""


def evaluate(
    driver: Driver,
    facts: Known,
    name: str,
    twins: tuple[Path, ...],
    config: EvalConfig,
    folder: Path | None = None,
    threads: int | None = None,
    on_batch: Callable[[Evaluation], None] = lambda evaluation: None,
    bases: Mapping[str, str] = MappingProxyType({}),
) -> Evaluation:
    """How often a policy does its task on twins.

    Args:
        driver: What drives.
        facts: What is known of the policy.
        name: Its name, recorded.
        twins: Folders of the twins.
        config: What is asked for.
        folder: Where ``evaluation.json`` and videos go; an evaluation of the same that was interrupted there goes on. None keeps nothing.
        threads: That draw frames.
        on_batch: Told what is known after every batch.
        bases: Where the robot stands on twins, by their SHA-256, that the policy has not learned on; where nothing is said, a place is found.

    Raises:
        TwinError: A twin, the instruction or a number makes no sense, or ``folder`` holds another evaluation.
    """
    check_eval(config)
    if config.half_width and len(twins) > 1:
        # What is stopped when it is known well enough is one rate; of several the twin that is driven last would decide.
        raise InputError("--half-width stops by the rate on one twin: give one --twin, or leave it out.")
    config = settled(config, facts)
    _check_unseen(config, facts)
    names, hashes = _names(twins), [twin_hash(twin) for twin in twins]
    trained = {each.twin for each in facts.shown}
    origins = [load_scene(twin).notes.get(DERIVED_FROM, "") for twin in twins]
    seen = tuple(n for n, h, o in zip(names, hashes, origins, strict=True) if {h, o} & trained)
    words = [instruction_of(config, facts, twin_sha256) for twin_sha256 in hashes]
    stands = [
        config.base or shown_base(facts, h, text) or bases.get(h, "") for h, text in zip(hashes, words, strict=True)
    ]
    identity = {"policy": name, "policy_sha256": facts.digest, "twins": hashes, "instructions": words, "bases": stands}
    evaluation = Evaluation(name, config, (), seen=seen if trained and "" not in trained else None)
    evaluation = _begun(folder, evaluation, identity)
    for index, twin in enumerate(twins):
        done = sum(row.twin == names[index] for row in evaluation.rows)
        if done >= config.episodes or evaluation.stopped_early:
            continue
        with (
            nullcontext(folder) if folder else TemporaryDirectory(prefix="phototwin_evaluate_") as scratch,
            closing(
                _Stage(
                    driver,
                    facts,
                    twin,
                    names[index],
                    index,
                    replace(config, instruction=words[index], base=stands[index]),
                    folder,
                    Path(scratch),
                    threads,
                )
            ) as stage,
        ):
            for shard in range(done // stage.size, -(-config.episodes // stage.size)):
                rows = stage.attempts(shard)[: config.episodes - shard * stage.size]
                evaluation = replace(evaluation, rows=evaluation.rows + tuple(rows), notes=stage.notes)
                successes, trials = sum(row.success for row in evaluation.rows), len(evaluation.rows)
                if config.half_width:
                    stop = narrow_enough(successes, trials, config.half_width, config.confidence)
                    evaluation = replace(evaluation, stopped_early=stop and trials < config.episodes)
                if folder is not None:
                    save_evaluation(folder, evaluation, identity)
                on_batch(evaluation)
                if evaluation.stopped_early:
                    break
    return evaluation


def _names(twins: tuple[Path, ...]) -> list[str]:
    """A name for each twin; with numbers where they are alike."""
    found, names = [load_scene(twin).name for twin in twins], []
    for name in found:
        numbered = (f"{name} {i}" for i in itertools.count(1))
        free = name if found.count(name) == 1 else next(n for n in numbered if n not in (*names, *found))
        names.append(free)
    return names


class _Stage:
    """A twin with a simulator over it, in which batches of attempts are driven."""

    def __init__(
        self,
        driver: Driver,
        facts: Known,
        twin: Path,
        name: str,
        index: int,
        config: EvalConfig,
        folder: Path | None,
        scratch: Path,
        threads: int | None,
    ) -> None:
        from phototwin_tasks.evaluate.drive import Limits
        from phototwin_tasks.generate.worker import Simulator

        self._driver, self._twin, self._folder, self._scratch = driver, twin, folder, scratch
        self._generate = generate_config(config, facts)
        self.size = self._generate.num_envs
        found, refused = tasks_of(load_scene(twin), self._generate)
        if not found:
            raise InputError(refused[0].reason)
        self._job = Job(index, str(twin), twin_hash(twin), found[0][0], found[0][1])
        self._limits = Limits(attempt_seconds(config, facts), config.shove_m_s)
        self._name, self._known, self._most = name, facts.state_names, config.videos
        self._simulator = Simulator(self._generate, threads or 0, facts.control)

    @property
    def notes(self) -> dict[str, str]:
        """What was used."""
        return self._simulator.notes()

    def attempts(self, shard: int) -> list[Row]:
        """The rows of a batch."""
        from phototwin.data.hdf5 import state_sha256
        from phototwin_tasks.evaluate.drive import drive
        from phototwin_tasks.generate.worker import Order

        # The first attempt of every seed is the photo itself, which policies were shown.
        order = Order(Shard(self._job.index, shard, self.size), self._job, self._twin, self._scratch / "attempts")
        env, looks = self._simulator.open(order)
        self._check_joints(tuple(env.scene["robot"].joint_names))
        numbers = [1 + i for i in order.shard.attempts]
        films = self._wanted if self._may_film(looks.live) else None
        episodes = drive(env, looks, self._driver, numbers, self._limits, films)
        self._film(episodes)
        fps = self._generate.fps
        return [
            Row(
                self._name,
                e.attempt,
                self._simulator.variant,
                e.success,
                len(e.action) / fps,
                e.failure,
                state_sha256(e),
            )
            for e in episodes
        ]

    def _check_joints(self, joints: tuple[str, ...]) -> None:
        """Refuse a policy that would take one joint for another."""
        if self._known and self._known != joints:
            raise InputError(
                f"The policy is given readings of {', '.join(self._known)}; the robot's are {', '.join(joints)}: "
                "it was made for another robot."
            )

    def _may_film(self, live: bool) -> bool:
        """Whether a batch may have something worth a film; where a renderer must be asked at every step, only until there are enough films."""
        if self._folder is None or not self._most:
            return False
        return not live or len(filmed(self._folder, self._name)) < 2 * self._most

    def _wanted(self, episodes: list[Episode]) -> list[int]:
        """Which episodes of a batch are filmed."""
        assert self._folder is not None
        there = filmed(self._folder, self._name)
        came = {episode.attempt: failure_word(episode) for episode in episodes}
        kept = kept_films(there | came, self._most)
        return [i for i, episode in enumerate(episodes) if episode.attempt in kept]

    def _film(self, episodes: list[Episode]) -> None:
        """Write the films of a batch, and remove those that make room for them."""
        from phototwin.view.preview import write_preview

        if self._folder is None:
            return
        for episode in episodes:
            if len(episode.rgb):
                write_preview([episode], film_file(self._folder, self._name, episode.attempt, failure_word(episode)))
        there = filmed(self._folder, self._name)
        for attempt in there.keys() - kept_films(there, self._most):
            film_file(self._folder, self._name, attempt, there[attempt]).unlink()

    def close(self) -> None:
        """Let go of the simulator."""
        self._simulator.close()


def attempt_seconds(config: EvalConfig, facts: Known) -> float:
    """Time for an attempt [s]."""
    return config.seconds or TIMES * facts.seconds


def instruction_of(config: EvalConfig, facts: Known, twin_sha256: str) -> str:
    """What the robot is told on a twin: what is asked for, else what the policy was told there; empty where nobody knows.

    Raises:
        InputError: It was told several things elsewhere, and nobody says which is meant here.
    """
    here = told(each for each in facts.shown if each.twin == twin_sha256)
    if config.instruction or here:
        return config.instruction or here[0]
    elsewhere, tasks = facts.instructions, {each.task for each in facts.shown}
    if len(elsewhere) > 1 and len(tasks) != 1:  # one task may be told in many words
        raise InputError(
            f"The policy was told {len(elsewhere)} things ({', '.join(elsewhere)}), none of them on this twin: give --instruction."
        )
    return elsewhere[0] if elsewhere else ""


def settled(config: EvalConfig, facts: Known) -> EvalConfig:
    """The config with nothing left open to the policy or to what a file may say tomorrow: the same config is the same evaluation.

    Raises:
        InputError: A name is unknown.
    """
    made = generate_config(config, facts)
    return replace(config, seconds=attempt_seconds(config, facts), randomize=made.randomize, base=made.base)


def _check_unseen(config: EvalConfig, facts: Known) -> None:
    """Refuse attempts that the policy was shown."""
    seed = config.seed + UNSEEN
    if any(each.seed == seed for each in facts.shown):
        raise InputError(
            f"The policy has learned from demonstrations of seed {seed}, and an evaluation of seed {config.seed} draws its attempts from {seed} ({UNSEEN} more): "
            "give another --seed."
        )


def shown_base(facts: Known, twin_sha256: str, instruction: str) -> str:
    """Where the robot stood in the demonstrations of a twin, as ``load_base`` reads it; empty where nobody knows."""
    here = [each for each in facts.shown if each.twin == twin_sha256 and each.base_pose_w]
    if not here:
        return ""
    return " ".join(map(repr, next((each for each in here if each.instruction == instruction), here[0]).base_pose_w))


def generate_config(config: EvalConfig, facts: Known) -> GenerateConfig:
    """What an evaluation's environment is made with: as the demonstrations were, but other draws."""
    return complete_config(
        GenerateConfig(
            (config.instruction,) if config.instruction else (),
            robot=facts.robot,
            num_demos=config.episodes,
            num_tasks=1,
            num_envs=config.num_envs,
            seed=config.seed + UNSEEN,
            fps=facts.fps,
            resolution=facts.resolution,
            physics=config.physics,
            renderer=config.renderer,
            device=config.device,
            randomize=config.randomize,
            query=config.query,
            base=config.base,
        )
    )


def save_evaluation(folder: Path, evaluation: Evaluation, identity: dict[str, Any]) -> None:
    """Write ``evaluation.json``.

    Raises:
        OutputError: The disk refuses.
    """
    rate = evaluation.rate()
    value: dict[str, Any] = {
        **identity,
        "seen": evaluation.seen,
        "config": asdict(evaluation.config),
        "success": {
            "rate": rate.rate,
            "low": rate.low,
            "high": rate.high,
            "trials": rate.trials,
            "method": rate.method,
        },
        "failures": evaluation.failures(),
        "stopped_early": evaluation.stopped_early,
        "notes": evaluation.notes,
        "rows": [asdict(row) for row in evaluation.rows],
    }
    write_bytes(folder / EVALUATION_FILE, (json.dumps(value, indent=1) + "\n").encode())


def load_evaluation(folder: Path) -> Evaluation:
    """What an evaluation in ``folder`` has found so far.

    Raises:
        InputError: There is none, or one of another version.
    """
    value = _read(Path(folder) / EVALUATION_FILE)
    if value is None:
        raise InputError(f"There is no evaluation in '{folder}': '{EVALUATION_FILE}' is missing or cannot be read.")
    try:
        rows = tuple(Row(**row) for row in value["rows"])
        seen = None if value["seen"] is None else tuple(value["seen"])
        config = EvalConfig(**value["config"])
        return Evaluation(value["policy"], config, rows, value["stopped_early"], value["notes"], seen)
    except (KeyError, TypeError) as error:
        raise InputError(
            f"'{folder}/{EVALUATION_FILE}' is not what this version writes ({error}): evaluate again, with another --out."
        ) from error


def _begun(folder: Path | None, asked: Evaluation, identity: dict[str, Any]) -> Evaluation:
    """What of the evaluation that is asked for is there already."""
    value = None if folder is None else _read(folder / EVALUATION_FILE)
    if value is None or folder is None:
        return asked
    wanted = identity | {"config": asdict(asked.config)}
    other = [name for name, want in wanted.items() if value.get(name) != want]
    if other:
        said = ", ".join(OTHER.get(name, "another policy") for name in other)
        raise InputError(f"'{folder}' holds another evaluation ({said}): give another --out, or delete it.")
    return load_evaluation(folder)


def _read(file: Path) -> dict[str, Any] | None:
    try:
        value = json.loads(file.read_text())
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None


def held_out(evaluation: Evaluation, name: str) -> str:
    """Whether a policy has learned on a twin, in words; empty where nobody knows."""
    if evaluation.seen is None:
        return ""
    return ", seen in training" if name in evaluation.seen else ", held out"


def describe(evaluation: Evaluation) -> Iterator[str]:
    """What was found, in lines."""
    names = evaluation.twins()
    yield f"success {evaluation.rate()}, {100 * evaluation.config.confidence:.0f} % confidence ({evaluation.rate().method})"
    if len(names) > 1 or evaluation.seen is not None:
        yield from (f"  {name}{held_out(evaluation, name)}: {evaluation.rate(name)}" for name in names)
    yield f"time to success {evaluation.seconds():.1f} s"
    if failures := evaluation.failures():
        yield "failures: " + ", ".join(f"{name} {count}" for name, count in failures.items())
    ranges = randomization(GenerateConfig(randomize=evaluation.config.randomize))
    if ranges == PRESETS["none"] and len(evaluation.rows) > 1:
        yield "nothing varies: all attempts begin as the photo does, and the interval is of the policy's own chance alone"
    if evaluation.stopped_early:
        yield f"stopped after {len(evaluation.rows)} attempts: the interval is narrow enough"
