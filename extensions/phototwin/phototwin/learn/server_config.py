"""How a policy server is spoken to, and what must be known to drive a robot with it: what it says of itself, else what one is told."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import numpy as np

from phototwin.errors import InputError
from phototwin.learn.config import Shown, read_shown
from phototwin.robots import get_robot

SCHEMES = ("ws://", "wss://")
SECTION = "phototwin"
"""Where the metadata that a server sends may hold the fields of ``ServerConfig`` and ``ServerFacts``."""
SPACES = ("joint", "tool", "delta")
SECONDS = 10.0
"""What demonstrations are taken to have lasted where a server does not say."""


@dataclass(frozen=True)
class ServerConfig:
    """How a policy server is spoken to; what its metadata says comes first. The names of keys are openpi's for one camera.

    Attributes:
        robot: Short name of the robot it drives.
        fps: Control rate [Hz].
        resolution: Width and height of the frames it is sent [px].
        execute: So many actions of a chunk are done before it looks again.
        space: What its actions are: "joint" (positions [rad]), "delta" (steps of the joints) or "tool" (poses as in learn.spaces); a gripper comes last.
        scale: What a step of "delta" is multiplied with [rad].
        image_key: Name of the frame (h, w, 3) uint8 in what it is sent.
        state_key: Name of the readings: all joints as in our datasets, with "tool" the tool's pose and the fingers.
        gripper_key: Name of the gripper's opening, one number; the readings are then those of the arm alone. Empty sends none.
        prompt_key: Name of the instruction.
        blank_keys: Names of cameras that we do not have; they get black frames.
        grip_open: The gripper's number when open, in actions and in what is sent.
        grip_closed: The same when closed.
    """

    robot: str = "panda"
    fps: int = 15
    resolution: tuple[int, int] = (224, 224)
    execute: int = 8
    space: str = "joint"
    scale: float = 1.0
    image_key: str = "observation/image"
    state_key: str = "observation/state"
    gripper_key: str = ""
    prompt_key: str = "prompt"
    blank_keys: tuple[str, ...] = ()
    grip_open: float = 1.0
    grip_closed: float = -1.0


@dataclass(frozen=True)
class ServerFacts:
    """What must be known to evaluate a policy behind a server; the names are those of ``PolicyFacts``.

    Attributes:
        robot: Short name of the robot.
        fps: Control rate [Hz].
        state_names: Names of the joints, in the order of the readings.
        instructions: What it was told; () where it does not say.
        shown: What it was shown; () where it does not say.
        resolution: Width and height of the frames [px].
        seconds: Mean length of the demonstrations it has learned from [s].
        digest: SHA-256 of its metadata and of how it is spoken to.
        batched: Whether it takes all attempts at once.
    """

    robot: str
    fps: int
    state_names: tuple[str, ...]
    instructions: tuple[str, ...]
    shown: tuple[Shown, ...]
    resolution: tuple[int, int]
    seconds: float
    digest: str
    batched: bool = False

    @property
    def control(self) -> str:
        """What its actions are to the environment: joint positions."""
        return "joint"


def is_server(policy: str) -> bool:
    """Whether a policy is named by the address of a server, not by a folder."""
    return policy.startswith(SCHEMES)


def settle(given: ServerConfig, metadata: Any) -> tuple[ServerConfig, ServerFacts]:
    """How a server is spoken to after what it said of itself, and what is known of it.

    Args:
        given: What one was told.
        metadata: What the server sent first.

    Raises:
        InputError: The metadata is nothing that can be used, contradicts what was given, or a number makes no sense.
    """
    said = metadata.get(SECTION, {}) if isinstance(metadata, dict) else None
    if not isinstance(said, dict):
        raise InputError(
            f"The policy server's metadata must be a dictionary, also its '{SECTION}': got {metadata!r:.200}."
        )
    config = _merged(given, said)
    check_server(config)
    robot = get_robot(config.robot)
    text = json.dumps([metadata, asdict(config)], sort_keys=True, default=_plain)
    facts = ServerFacts(
        robot=config.robot,
        fps=config.fps,
        state_names=_words(said, "state_names") or (*robot.arm_joints, *robot.finger_joints),
        instructions=_words(said, "instructions"),
        shown=_shown(said.get("shown", ())),
        resolution=config.resolution,
        seconds=_said(said, "seconds", SECONDS),
        digest=hashlib.sha256(text.encode()).hexdigest(),
        batched=_said(said, "batched", False),
    )
    if not facts.seconds > 0:
        raise InputError(f"The policy server says that demonstrations last {facts.seconds} s: expected more than 0.")
    if missing := set(robot.arm_joints) - set(facts.state_names):
        raise InputError(f"The policy server reads no joint {', '.join(sorted(missing))} of the robot {robot.name}.")
    return config, facts


def _merged(given: ServerConfig, said: dict[str, Any]) -> ServerConfig:
    """What was given, with what the server says of itself in its place."""
    values: dict[str, Any] = {}
    for field in fields(ServerConfig):
        usual, told = getattr(ServerConfig, field.name), getattr(given, field.name)
        if field.name not in said:
            continue
        values[field.name] = _said(said, field.name, usual)
        if told not in (usual, values[field.name]):
            option = field.name.replace("_", "-")
            raise InputError(
                f"--server.{option} is {told}, but the policy server says that it is {values[field.name]}: leave the option away."
            )
    return replace(given, **values)


def _said[T](said: dict[str, Any], name: str, usual: T) -> T:
    """A field of the metadata, of the type of its usual value; that value where it is not there.

    Raises:
        InputError: It is of another type.
    """
    if name not in said:
        return usual
    value: Any = said[name]
    value = tuple(value) if isinstance(value, list | tuple) else value
    value = float(value) if isinstance(usual, float) and isinstance(value, int) else value
    fits = type(value) is type(usual)
    if isinstance(usual, tuple) and fits:
        inner = int if name == "resolution" else str
        fits = all(type(part) is inner for part in value) and (name != "resolution" or len(value) == 2)
    if not fits:
        raise InputError(
            f"The policy server's metadata says that '{name}' is {said[name]!r:.100}: expected something like {usual!r}."
        )
    return value


def _words(said: dict[str, Any], name: str) -> tuple[str, ...]:
    return _said(said, name, ())


def _shown(said: Any) -> tuple[Shown, ...]:
    """What a server was shown.

    Raises:
        InputError: It is no list of what ``Shown`` has.
    """
    try:
        return read_shown(said)
    except (TypeError, ValueError, AttributeError) as error:
        raise InputError(
            f"The policy server's metadata says that 'shown' is {said!r:.100}: expected a list of dictionaries ({error})."
        ) from error


def _plain(value: Any) -> Any:
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else str(value)


def check_server(config: ServerConfig) -> None:
    """Refuse what cannot be meant; frame rate and resolution are judged where the environment is made.

    Raises:
        InputError: An unknown name or an impossible number.
    """
    get_robot(config.robot)
    if config.space not in SPACES:
        raise InputError(f"Unknown space '{config.space}' of a server's actions. Choose one of {', '.join(SPACES)}.")
    if config.execute < 1:
        raise InputError(f"{config.execute} actions of a chunk are to be done: expected at least 1.")
    if config.grip_open == config.grip_closed:
        raise InputError(
            f"--server.grip-open and --server.grip-closed are both {config.grip_open}: expected two numbers."
        )
    keys = [config.image_key, config.state_key, config.prompt_key, *config.blank_keys]
    keys += [config.gripper_key] if config.gripper_key else []
    if not all(keys) or len(set(keys)) != len(keys):
        raise InputError(
            f"A policy server needs a name of its own for everything it is sent, got {', '.join(map(repr, keys))}."
        )
