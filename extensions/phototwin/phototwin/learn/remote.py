"""A policy behind a websocket, in openpi's protocol: it is sent frame, readings and words, and answers with the next actions.

The server sends its metadata when it is reached; every question and every answer is one packed dictionary; an answer in words tells of an error.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from phototwin.errors import InputError
from phototwin.learn.server_config import ServerConfig, ServerFacts, settle
from phototwin.learn.wire import pack, unpack
from phototwin.robots import get_robot

ACTIONS_KEY = "actions"
BEGIN_KEY = "phototwin/begin"
"""True in the first question of new attempts; only servers that take all attempts at once are told."""
SEED_KEY = "phototwin/seed"
"""Of what the policy draws in those attempts; stands beside ``BEGIN_KEY``."""
CONNECT_S, ANSWER_S = 10.0, 600.0
"""How long we wait for a server, and for an answer: the first may have to be compiled for minutes."""
LAST_LINES = 12
"""Of a server's traceback."""


class RemotePolicy:
    """What answers at an address, as a driver of attempts.

    Args:
        address: "ws://HOST:PORT" or "wss://...".
        given: How it is spoken to where it does not say so itself.

    Raises:
        InputError: Nothing answers there, or what answers is no policy server that we can use.
    """

    def __init__(self, address: str, given: ServerConfig | None = None) -> None:
        from websockets.sync.client import connect

        self._address = address
        try:
            # Servers of this kind compute in their event loop and answer no pings meanwhile.
            self._socket = connect(address, open_timeout=CONNECT_S, compression=None, max_size=None, ping_interval=None)
        except (OSError, _websocket_error(), ValueError) as error:
            raise InputError(
                f"No policy server answers at '{address}' ({error}): start it there, or give the address of one that runs."
            ) from error
        try:
            self._config, self._facts = settle(given or ServerConfig(), self._receive())
        except BaseException:
            self.close()
            raise

    @property
    def facts(self) -> ServerFacts:
        """What must be known to evaluate it."""
        return self._facts

    @property
    def config(self) -> ServerConfig:
        """How it is spoken to."""
        return self._config

    @property
    def execute(self) -> int:
        """So many actions of a chunk are done before it looks again."""
        return self._config.execute

    def begin(self, attempts: int, seed: int) -> None:
        """New attempts begin, so many side by side; what a server that takes one at a time draws is its own affair."""
        self._begins, self._seed = True, seed

    def actions(self, rgb: np.ndarray, state: np.ndarray, instruction: str) -> np.ndarray:
        """Joint commands and gripper (B, H, J + 1) for frames (B, h, w, 3) uint8 and joint readings (B, S).

        Raises:
            InputError: The server is gone, tells of an error, or answers with something that is no chunk of actions.
        """
        if state.shape[1] != len(self._facts.state_names):
            raise InputError(
                f"The robot has {state.shape[1]} joints, but the policy server at '{self._address}' expects "
                f"{len(self._facts.state_names)}: {', '.join(self._facts.state_names)}."
            )
        asked = self._observations(rgb, state, instruction)
        if self._facts.batched:
            told = self._chunks(asked | {BEGIN_KEY: self._begins, SEED_KEY: self._seed}, len(rgb))
            self._begins = False
        else:
            each = (
                {name: value if isinstance(value, str) else value[i] for name, value in asked.items()}
                for i in range(len(rgb))
            )
            told = np.stack([self._chunks(one) for one in each])
        return self._commands(told, state)

    def _observations(self, rgb: np.ndarray, state: np.ndarray, instruction: str) -> dict[str, Any]:
        """What the server is sent, each with one row an attempt."""
        from phototwin.learn.spaces import arm_joints, arm_of, tool_numbers, tool_state
        from phototwin.plan.ik import tool_pose

        config, names = self._config, self._facts.state_names
        asked: dict[str, Any] = {config.image_key: rgb, config.prompt_key: instruction}
        asked |= {key: np.zeros_like(rgb) for key in config.blank_keys}
        if config.space != "tool" and not config.gripper_key:
            return asked | {config.state_key: state}
        arm = arm_of(config.robot)
        if not config.gripper_key:
            return asked | {config.state_key: tool_state(arm, state, names)}
        joints = arm_joints(arm, state, names)
        read = tool_numbers(tool_pose(arm, joints)) if config.space == "tool" else joints
        robot = get_robot(config.robot)
        fingers = state[:, [names.index(name) for name in robot.finger_joints]]
        closed, opened = np.array(robot.fingers_closed), np.array(robot.fingers_open)
        share = ((fingers - closed) / (opened - closed)).mean(1, keepdims=True)
        grip = config.grip_closed + share * (config.grip_open - config.grip_closed)
        return asked | {config.state_key: read.astype(np.float32), config.gripper_key: grip.astype(np.float32)}

    def _chunks(self, asked: dict[str, Any], attempts: int = 0) -> np.ndarray:
        """The actions of an answer that are done, (execute, A); of so many attempts, (B, execute, A)."""
        from phototwin.learn.spaces import TOOL_NAMES

        self._send(asked)
        answer = self._receive()
        if not isinstance(answer, dict) or ACTIONS_KEY not in answer:
            got = ", ".join(map(str, answer)) if isinstance(answer, dict) else repr(answer)[:100]
            raise self._useless(f"answers with {got or 'nothing'}, expected a dictionary with '{ACTIONS_KEY}'")
        try:
            told = np.asarray(answer[ACTIONS_KEY])
        except ValueError as error:
            raise self._useless("answers with actions of different lengths") from error
        arm = len(get_robot(self._config.robot).arm_joints)
        width = 1 + (len(TOOL_NAMES) if self._config.space == "tool" else arm)
        wanted = (*([attempts] if attempts else []), "H", width)
        shape = f"({', '.join(map(str, wanted))})"
        if told.dtype.kind not in "fiu" or told.ndim != len(wanted) or (attempts and len(told) != attempts):
            raise self._useless(f"answers with actions {told.shape} of type {told.dtype}, expected numbers {shape}")
        if told.shape[-1] != width:
            raise self._useless(
                f"answers with {told.shape[-1]} numbers an action, expected {width}: those of the robot {self._config.robot} "
                f"in space '{self._config.space}' and the gripper (--server.robot, --server.space)"
            )
        if told.shape[-2] < self.execute:
            raise self._useless(
                f"answers with {told.shape[-2]} actions, of which {self.execute} are to be done (--server.execute)"
            )
        told = told[..., : self.execute, :].astype(np.float32)
        if not np.isfinite(told).all():
            raise self._useless("answers with actions that are not finite numbers")
        return told

    def _commands(self, told: np.ndarray, state: np.ndarray) -> np.ndarray:
        """Joint commands and gripper, positive opens, of the server's actions (B, H, A)."""
        from phototwin.learn.spaces import arm_joints, arm_of, joint_actions, tool_poses

        config, names = self._config, self._facts.state_names
        if config.space == "tool":
            with np.errstate(divide="ignore", invalid="ignore"):
                sound = np.isfinite(tool_poses(told[..., :9])).all()
            if not sound:
                raise self._useless("answers with tool poses whose axes have no length, or one direction")
            told = joint_actions(arm_of(config.robot), told, state, names)
        with np.errstate(over="ignore", invalid="ignore"):
            if config.space == "delta":
                now = arm_joints(arm_of(config.robot), state, names)[:, None]
                told = np.concatenate([now + config.scale * told[..., :-1].cumsum(1), told[..., -1:]], -1)
            span = config.grip_open - config.grip_closed
            grip = (2 * told[..., -1:] - config.grip_open - config.grip_closed) / span
            commands = np.concatenate([told[..., :-1], grip], -1).astype(np.float32)
        if not np.isfinite(commands).all():
            raise self._useless("answers with actions that lead to no finite command")
        return commands

    def _send(self, value: Any) -> None:
        try:
            self._socket.send(pack(value))
        except (OSError, _websocket_error()) as error:
            raise self._gone(error) from error

    def _receive(self) -> Any:
        try:
            data = self._socket.recv(timeout=ANSWER_S)
        except TimeoutError as error:
            raise self._useless(f"has not answered for {ANSWER_S:g} s") from error
        except (OSError, _websocket_error()) as error:
            raise self._gone(error) from error
        if isinstance(data, str):
            raise self._useless("tells of an error:\n" + "\n".join(data.strip().splitlines()[-LAST_LINES:]))
        return unpack(data)

    def _gone(self, error: Exception) -> InputError:
        return InputError(
            f"The policy server at '{self._address}' is gone ({error}): start it again, then the same command; "
            "what was evaluated before is kept."
        )

    def _useless(self, what: str) -> InputError:
        return InputError(f"The policy server at '{self._address}' {what}.")

    def close(self) -> None:
        """Say goodbye to the server."""
        self._socket.close()


def _websocket_error() -> type[Exception]:
    from websockets.exceptions import WebSocketException

    return WebSocketException
