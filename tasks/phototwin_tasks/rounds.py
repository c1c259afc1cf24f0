"""On-policy rounds: the student drives for a while, the planner takes over and shows how to go on, the student learns from that too."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from phototwin.console import logged_to
from phototwin.data.lerobot import write_lerobot
from phototwin.errors import InputError, OutputError
from phototwin.learn.begun import begin_folder
from phototwin.learn.config import PolicyFacts, TrainConfig, check_training
from phototwin.learn.demos import ROUND, Demos, join_demos, load_demos
from phototwin.learn.job import gather_demos
from phototwin.learn.policy import FACTS_FILE, load_policy
from phototwin.learn.train import choose_precision, demos_digest, make_facts, train
from phototwin.output import disk_errors
from phototwin.scene import load_scene
from phototwin_tasks.evaluate.config import EvalConfig
from phototwin_tasks.evaluate.drivers import PolicyDriver
from phototwin_tasks.evaluate.run import generate_config, instruction_of, settled, shown_base
from phototwin_tasks.generate.config import versions
from phototwin_tasks.generate.jobs import Job, tasks_of, twin_hash
from phototwin_tasks.generate.schedule import Shard

if TYPE_CHECKING:
    from phototwin.episode import Episode
    from phototwin_tasks.evaluate.drive import Driver
    from phototwin_tasks.looks import Looks
    from phototwin_tasks.twin_env import TwinEnv

ROUNDS_FILE = "rounds.json"
"""What rounds were begun with."""
FREE = ("rounds.rounds",)
"""More rounds of the same go on where those have ended."""
LOG_FILE = "rounds.log"
LEAVE_STREAM = 4
"""When the student leaves is drawn from seed and attempt with this behind them."""
ROUND_SEED = 100
"""Seeds of rounds lie this far above that of the run, below those of evaluations."""
MOST_ROUNDS = 8
MOST_TRIES = 4
"""A round gives up after so many times the attempts that it would take if all succeeded."""


@dataclass(frozen=True)
class RoundsConfig:
    """How rounds are driven.

    Attributes:
        rounds: How many.
        demos: Demonstrations of each round.
        steps: Training steps of each round.
        seed: Of the attempts.
        latest: The student leaves at an even draw from 0 to this share of how long demonstrations take; beyond 1 what it has missed is tried again.
        grasp_variety: As in ``GenerateConfig``.
        environment: Randomisation, engine and the like; of it episodes and seed do not count.
    """

    rounds: int = 3
    demos: int = 50
    steps: int = 1000
    seed: int = 0
    latest: float = 1.2
    grasp_variety: float = 0.0
    environment: EvalConfig = field(default_factory=EvalConfig)


class PolicyGuest:
    """The student, driving until its time is over, see ``rollout.Guest``.

    Args:
        env: The environment.
        looks: What the student sees.
        driver: The student.
        attempts: Index of the attempt of each environment.
        latest_s: Latest time at which it leaves.
    """

    def __init__(self, env: TwinEnv, looks: Looks, driver: Driver, attempts: Sequence[int], latest_s: float) -> None:
        from phototwin_tasks.evaluate.drive import driver_seed
        from phototwin_tasks.looks import attempt_blenders

        self._env, self._looks, self._driver = env, looks, driver
        self._blenders = attempt_blenders(env, looks, attempts)
        drawn = [np.random.default_rng([env.run_seed, a, LEAVE_STREAM]).uniform(0, latest_s) for a in attempts]
        self.leaves = [round(seconds / env.step_dt) for seconds in drawn]
        self._told, self._frames = np.zeros((0, 0, 0)), None
        driver.begin(len(attempts), driver_seed(env.run_seed, attempts))

    def actions(self, t: int) -> np.ndarray:
        """What every environment is told at control step ``t``, (N, A)."""
        from phototwin_tasks.looks import look
        from phototwin_tasks.records import read_rows

        if t % self._driver.execute == 0:
            driven = [i for i, leaves in enumerate(self.leaves) if leaves > t]
            self._frames = look(self._env, self._looks, self._blenders, t, self._frames, driven)
            joints = read_rows(self._env)["joint_pos"]
            self._told = self._driver.actions(self._frames, joints, self._env.task.text)
        return self._told[:, t % self._driver.execute]


def taken_over(
    driver: Driver,
    facts: PolicyFacts,
    twin: Path,
    config: RoundsConfig,
    number: int,
    folder: Path,
    threads: int | None = None,
) -> Iterator[Episode]:
    """Demonstrations that begin where the student has left, successful ones alone.

    Args:
        driver: The student.
        facts: What is known of it.
        twin: Folder of the twin.
        config: How.
        number: Number of the round, from 1.
        folder: Where variants of the twin are kept.
        threads: That draw frames.

    Raises:
        TwinError: The task cannot be done on the twin, or too few attempts succeed.
    """
    from phototwin_tasks.generate.worker import Order, Simulator
    from phototwin_tasks.rollout import rollout

    sha256 = twin_hash(twin)
    words = instruction_of(config.environment, facts, sha256)
    base = config.environment.base or shown_base(facts, sha256, words)
    asked = replace(config.environment, episodes=config.demos, instruction=words, base=base)
    generate = replace(
        generate_config(asked, facts), seed=config.seed + number * ROUND_SEED, grasp_variety=config.grasp_variety
    )
    found, refused = tasks_of(load_scene(twin), generate)
    if not found:
        raise InputError(refused[0].reason)
    job = Job(0, str(twin), sha256, *found[0])
    made, size = 0, generate.num_envs
    most = MOST_TRIES * -(-config.demos // size)
    with closing(Simulator(generate, threads or 0)) as simulator:
        for shard in range(most):
            order = Order(Shard(0, shard, size), job, twin, folder / "attempts")
            env, looks = simulator.open(order)
            guest = PolicyGuest(env, looks, driver, order.shard.attempts, config.latest * facts.seconds)
            provenance: dict[str, Any] = {"twin": job.twin_sha256, "variant": simulator.variant, "versions": versions()}
            provenance |= {ROUND: number, "policy": facts.digest}
            for episode in rollout(env, order.shard.attempts, looks, provenance=provenance, guest=guest):
                if episode.success and len(episode.action):
                    yield episode
                    made += 1
                if made == config.demos:
                    return
    raise OutputError(f"Only {made} of {config.demos} takeovers of round {number} succeeded in {most * size} attempts.")


def train_in_rounds(
    demos: Demos,
    twin: Path,
    training: TrainConfig,
    config: RoundsConfig,
    folder: Path,
    on_round: Callable[[int, Any, PolicyFacts], None] = lambda number, policy, facts: None,
) -> tuple[Any, PolicyFacts]:
    """A policy that learned from demonstrations, and then from what the planner did where the policy had come to.

    What is whole in ``folder`` is not made again: ``round_0`` is the policy of the demonstrations, ``round_1`` and on the later ones.

    Args:
        demos: What it learns from first.
        twin: Folder of the twin it drives.
        training: Of the first policy; later rounds go on from it for ``config.steps`` steps.
        config: Of the rounds.
        folder: Where policies and datasets go.
        on_round: Told the number of the round and its policy.

    Raises:
        TwinError: A config makes no sense, ``folder`` was begun with another, the task cannot be done, or the disk refuses.
    """
    if not 1 <= config.rounds <= MOST_ROUNDS or config.demos < 1:
        raise InputError(
            f"{config.rounds} rounds of {config.demos} demonstrations: expected 1 to {MOST_ROUNDS} of at least 1."
        )
    choose_precision(training)  # a device that is not here shall claim no folder
    environment = settled(config.environment, make_facts(training.policy, demos))
    config = replace(config, environment=environment)
    begun = {"twin": twin_hash(twin), "data_sha256": demos_digest(demos), "training": asdict(training)}
    begin_folder(folder / ROUNDS_FILE, begun | {"rounds": asdict(config)}, FREE)
    policy, facts = _made(folder / "round_0" / "policy", demos, training)
    on_round(0, policy, facts)
    for number in range(1, config.rounds + 1):
        place = folder / f"round_{number}"
        data = place / "lerobot"
        if not (data / "meta" / "info.json").is_file():
            write_lerobot(taken_over(PolicyDriver(policy, facts), facts, twin, config, number, place), data)
        demos = join_demos([demos, load_demos(data, training.policy.image_px)])
        later = replace(training, steps=config.steps, seed=training.seed + number)
        policy, facts = _made(place / "policy", demos, later, (policy, facts))
        on_round(number, policy, facts)
    return policy, facts


def _made(
    folder: Path, demos: Demos, config: TrainConfig, start: tuple[Any, PolicyFacts] | None = None
) -> tuple[Any, PolicyFacts]:
    """The policy of a round, read where it is whole already."""
    if (folder / FACTS_FILE).is_file():
        return load_policy(folder)
    trained = train(demos, config, folder, start=start)
    return trained.policy, trained.facts


def run_rounds(
    data: tuple[Path, ...],
    twin: Path,
    training: TrainConfig,
    config: RoundsConfig,
    out: Path,
    demos: int | None = None,
) -> str:
    """Train in rounds on datasets; what to say at the end.

    Args:
        data: Folders of runs of generate.py, or of LeRobot datasets.
        twin: Folder of the twin that the student drives.
        training: Of the first policy.
        config: Of the rounds.
        out: Folder of the rounds.
        demos: So many episodes of each dataset; all where None.

    Raises:
        TwinError: As ``train_in_rounds``.
    """
    check_training(training)
    load_scene(twin)
    first = gather_demos(data, training.policy.image_px, demos)
    with disk_errors(out):
        out.mkdir(parents=True, exist_ok=True)
        with logged_to(out / LOG_FILE) as terminal:

            def say(number: int, policy: Any, facts: PolicyFacts) -> None:
                terminal.write(f"round {number} of {config.rounds}: a policy from {facts.demos} demonstrations\n")

            _, facts = train_in_rounds(first, twin, training, config, out, say)
    last = out / f"round_{config.rounds}" / "policy"
    return (
        f"{training.policy.kind} from {len(first)} demonstrations and {facts.demos - len(first)} takeovers in {config.rounds} rounds.\n"
        f"  {last}   scripts/evaluate.py --policy {last} --twin {twin}\n"
    )
