"""Policies behind a websocket: what is sent and done is what openpi's protocol says, our server and our client fit, and every failure is told."""

import os
import re
import subprocess
import threading
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest

from phototwin.errors import InputError
from phototwin.learn.config import PolicyConfig, PolicyFacts, Shown
from phototwin.learn.remote import ACTIONS_KEY, RemotePolicy
from phototwin.learn.serve import describe_policy, make_server
from phototwin.learn.server_config import SECTION, ServerConfig, check_server, is_server, settle
from phototwin.learn.wire import pack, unpack
from phototwin.robots import get_robot

PANDA = get_robot("panda")
NAMES = (*PANDA.arm_joints, *PANDA.finger_joints)
HOME = np.array([*PANDA.home_rad, *PANDA.fingers_open], np.float32)
FACTS = PolicyFacts(PolicyConfig("bc", "tool", execute=3), "panda", 20, NAMES, (Shown("pick up the cube", "{}", "5e", 3, (0.0,) * 7),), (32, 24), 4.0, 7, "abc")  # fmt: skip
OPENPI = os.environ.get("PHOTOTWIN_OPENPI_PYTHON")
"""Python of an environment with openpi-client, which wants a numpy older than ours."""

pytest.importorskip("websockets")


@contextmanager
def listening(server):
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"ws://127.0.0.1:{server.socket.getsockname()[1]}"
    finally:
        server.shutdown()
        thread.join()


def plain_server(answer, metadata=None):
    """A server as openpi's is: metadata, then an answer to every question."""
    from websockets.sync.server import serve

    def handle(client):
        client.send(metadata if isinstance(metadata, bytes | str) else pack(metadata or {}))
        for message in client:
            told = answer(unpack(message))
            if told is None:
                client.close()
                return
            client.send(told if isinstance(told, bytes | str) else pack(told))

    return listening(serve(handle, "127.0.0.1", 0, compression=None, max_size=None, ping_interval=None))


def shown(count=2):
    rng = np.random.default_rng(0)
    rgb = rng.integers(0, 256, (count, 24, 32, 3), dtype=np.uint8)
    return rgb, HOME + rng.uniform(-0.1, 0.1, (count, 9)).astype(np.float32) * (np.arange(9) < 7)


class Sums:
    """Actions that tell everything that was shown: the sum of the frame, the readings, how often it was asked."""

    def begin(self, attempts, seed):
        self.attempts, self.asked = attempts, 0

    def actions(self, rgb, state, instruction):
        assert len(rgb) == len(state) == self.attempts
        self.asked += 1
        told = np.zeros((len(rgb), 5, 8), np.float32)
        told[..., 0] = rgb.sum((1, 2, 3), dtype=np.float64)[:, None] / 1e6
        told[..., 1:7] = state[:, None, :6]
        told[..., 7] = self.asked + len(instruction) / 100
        return told


@contextmanager
def our_server():
    with listening(make_server(Sums, describe_policy(FACTS), "127.0.0.1", 0)) as address:
        yield address


@pytest.mark.parametrize("dtype", ["u1", "<f4", ">f8", "i8", "?", "U3"])
def test_values_travel_as_they_are(dtype):
    rng = np.random.default_rng(0)
    value = {"a": rng.integers(0, 2, (3, 1, 4)).astype(dtype), "b": ["x", 1, 2.5, None, {"c": b"\x00"}], "n": np.float32(0.1)}  # fmt: skip
    back = unpack(pack(value))
    assert back["a"].dtype == value["a"].dtype and np.array_equal(back["a"], value["a"]) and back["b"] == value["b"]
    assert back["n"] == np.float32(0.1) and back["n"].dtype == np.float32
    assert unpack(pack(np.zeros((0, 3)))).shape == (0, 3) and unpack(pack(np.array(3.0))).shape == ()


@pytest.mark.parametrize("value", [object(), np.array([object()]), {"a": {1, 2}}, 2**70, np.zeros(2, "c8")])
def test_what_cannot_travel_is_refused(value):
    with pytest.raises(InputError, match="cannot be sent"):
        pack(value)


def test_bytes_of_something_else_are_refused():
    import msgpack

    for given in (b"", b"\xc1", b"hello world", pack({"a": 1})[:-1]):
        with pytest.raises(InputError, match="policy server"):
            unpack(given)
    array = {b"__ndarray__": True, b"data": b"12345678", b"dtype": "<f4", b"shape": [2]}
    assert unpack(msgpack.packb(array)).shape == (2,)
    for wrong in ({b"shape": [3]}, {b"dtype": "|O"}, {b"dtype": "what"}, {b"data": 5}, {b"shape": [-1, -1]}):
        with pytest.raises(InputError):
            unpack(msgpack.packb(array | wrong))


def test_a_plain_server_is_sent_openpis_dictionary_one_attempt_at_a_time():
    asked = []

    def answer(question):
        asked.append(question)
        return {ACTIONS_KEY: np.full((4, 8), len(asked), np.float64), "server_timing": {"infer_ms": 1.0}}

    rgb, state = shown(3)
    with plain_server(answer) as address:
        policy = RemotePolicy(address, ServerConfig(execute=2, blank_keys=("observation/wrist_image",)))
        policy.begin(3, 0)
        told = policy.actions(rgb, state, "pick up the cube")
        policy.close()
    assert told.shape == (3, 2, 8) and told.dtype == np.float32 and (told == np.array([1, 2, 3])[:, None, None]).all()
    for i, question in enumerate(asked):
        assert set(question) == {"observation/image", "observation/wrist_image", "observation/state", "prompt"}
        assert np.array_equal(question["observation/image"], rgb[i]) and question["prompt"] == "pick up the cube"
        assert np.array_equal(question["observation/state"], state[i]) and not question["observation/wrist_image"].any()


def test_our_server_answers_as_the_policy_does_in_this_process():
    rgb, state = shown(3)
    with our_server() as address:
        policy = RemotePolicy(address)
        facts = policy.facts
        assert (facts.robot, facts.fps, facts.resolution, facts.seconds, facts.state_names, facts.instructions) == (
            (FACTS.robot, FACTS.fps, FACTS.resolution, FACTS.seconds, FACTS.state_names, FACTS.instructions)
        )
        assert facts.shown == FACTS.shown, "so that it is tested on nothing that it was shown"
        direct = Sums()
        for _ in range(2):  # of two batches of attempts
            policy.begin(3, 0)
            direct.begin(3, 0)
            for _ in range(2):
                told = policy.actions(rgb, state, "go")
                assert np.array_equal(told, direct.actions(rgb, state, "go")[:, : policy.execute])
        other = RemotePolicy(address)
        assert other.facts == facts
        other.close()
        policy.close()


def test_servers_differ_by_what_they_say_and_by_how_they_are_spoken_to():
    said = describe_policy(FACTS)
    other = describe_policy(replace(FACTS, digest="other weights"))
    digests = {settle(ServerConfig(), value)[1].digest for value in (said, said, other, {}, {"a": np.zeros(2)})}
    digests |= {settle(ServerConfig(execute=1), {})[1].digest}
    assert len(digests) == 5


def test_the_gripper_and_the_arm_alone():
    """Apart and under DROID's names, with 1 for closed: what is told comes back in our own sense."""
    asked = []

    def answer(question):
        asked.append(question)
        return {ACTIONS_KEY: np.tile([*range(7), 1.0], (2, 1))}

    config = ServerConfig(execute=2, state_key="observation/joint_position", gripper_key="observation/gripper_position", grip_open=0.0, grip_closed=1.0)  # fmt: skip
    rgb, state = shown(2)
    state[1, 7:] = PANDA.fingers_closed
    with plain_server(answer) as address:
        policy = RemotePolicy(address, config)
        told = policy.actions(rgb, state, "x")
        policy.close()
    assert np.array_equal(asked[0]["observation/joint_position"], state[0, :7])
    assert [float(q["observation/gripper_position"][0]) for q in asked] == pytest.approx([0.0, 1.0], abs=1e-6)
    assert (told[..., :7] == np.arange(7)).all() and (told[..., 7] == -1).all()


def test_steps_of_joints_add_up_from_where_they_are():
    rgb, state = shown(2)
    with plain_server(lambda question: {ACTIONS_KEY: np.tile([*[0.5] * 7, 1.0], (3, 1))}) as address:
        policy = RemotePolicy(address, ServerConfig(execute=3, space="delta", scale=0.2))
        told = policy.actions(rgb, state, "x")
        policy.close()
    wanted = state[:, None, :7] + 0.1 * np.arange(1, 4)[:, None]
    assert np.allclose(told[..., :7], wanted, atol=1e-6) and (told[..., 7] == 1).all()


def test_tool_poses_are_followed_by_the_arm():
    """Answered with where the tool is, the arm stays; the readings are the tool's pose and the fingers."""
    from phototwin.learn.spaces import arm_of
    from phototwin.plan.ik import tool_pose

    rgb, state = shown(2)
    asked = []

    def answer(question):
        asked.append(question["observation/state"])
        return {ACTIONS_KEY: np.tile([*(asked[-1][:9] + 0.02 * (np.arange(9) == 2)), 1.0], (2, 1))}

    with plain_server(answer) as address:
        policy = RemotePolicy(address, ServerConfig(execute=2, space="tool"))
        told = policy.actions(rgb, state, "x")
        policy.close()
    arm = arm_of("panda")
    before, after = tool_pose(arm, state[:, :7].astype(float)), tool_pose(arm, told[:, -1, :7].astype(float))
    assert asked[0].shape == (11,) and np.allclose(asked[0][:3], before[0, :3, 3], atol=1e-6)
    assert np.allclose(after[:, :3, 3] - before[:, :3, 3], [0, 0, 0.02], atol=1e-3)


GOOD = np.zeros((4, 8))
NAN = np.where(np.arange(8) == 3, np.nan, GOOD)


@pytest.mark.parametrize(
    ("told", "words"),
    [
        ({ACTIONS_KEY: GOOD[:, :7]}, "7 numbers an action, expected 8"),
        ({ACTIONS_KEY: GOOD[0]}, r"actions \(8,\)"),
        ({ACTIONS_KEY: GOOD[None]}, r"actions \(1, 4, 8\)"),
        ({ACTIONS_KEY: GOOD[:1]}, "1 actions, of which 2"),
        ({ACTIONS_KEY: GOOD[:0]}, "0 actions, of which 2"),
        ({ACTIONS_KEY: NAN}, "not finite"),
        ({ACTIONS_KEY: [[0.0] * 8, [0.0] * 7]}, "different lengths"),
        ({ACTIONS_KEY: GOOD.astype(str)}, "expected numbers"),
        ({"action": GOOD}, "answers with action, expected"),
        ([1, 2], "expected a dictionary"),
        (b"\xc1", "no msgpack"),
        ("Traceback (most recent call last):\n  KeyError: 'observation/wrist_image'", "wrist_image"),
        (None, "is gone"),
    ],
    ids=["joints", "one", "many", "few", "none", "nan", "ragged", "words", "key", "list", "bytes", "error", "dead"],
)
def test_answers_that_cannot_be_done_are_told(told, words):
    rgb, state = shown(2)
    answers = iter([{ACTIONS_KEY: GOOD}, told])
    with plain_server(lambda question: next(answers)) as address:
        policy = RemotePolicy(address, ServerConfig(execute=2))
        with pytest.raises(InputError, match=words) as told_error:
            policy.actions(rgb, state, "x")
        policy.close()
    assert address in str(told_error.value) or told == b"\xc1"


def test_steps_that_lead_nowhere_are_told():
    rgb, state = shown(2)
    with plain_server(lambda question: {ACTIONS_KEY: np.full((4, 8), 3e38)}) as address:
        policy = RemotePolicy(address, ServerConfig(execute=2, space="delta", scale=10.0))
        with pytest.raises(InputError, match="no finite command"):
            policy.actions(rgb, state, "x")
        policy.close()


def test_what_our_server_draws_comes_of_the_seed_of_the_attempts():
    begun = []

    class Drawing(Sums):
        def begin(self, attempts, seed):
            super().begin(attempts, seed)
            begun.append((attempts, seed))

    rgb, state = shown(3)
    with listening(make_server(Drawing, describe_policy(FACTS), "127.0.0.1", 0)) as address:
        policy = RemotePolicy(address)
        for seed in (7, 2**32 - 1):
            policy.begin(3, seed)
            policy.actions(rgb, state, "x")
            policy.actions(rgb, state, "x")
        policy.close()
    assert begun == [(1, 0), (3, 7), (3, 2**32 - 1)]


def test_a_robot_with_other_joints_and_poses_without_axes_are_told():
    rgb, state = shown(2)
    with plain_server(lambda question: {ACTIONS_KEY: np.zeros((4, 10))}) as address:
        policy = RemotePolicy(address, ServerConfig(execute=2, space="tool"))
        with pytest.raises(InputError, match="7 joints, but"):
            policy.actions(rgb, state[:, :7], "x")
        with pytest.raises(InputError, match="axes have no length"):
            policy.actions(rgb, state, "x")
        policy.close()


def test_a_server_that_does_not_answer_in_time_is_told(monkeypatch):
    from phototwin.learn import remote

    release = threading.Event()
    monkeypatch.setattr(remote, "ANSWER_S", 0.2)
    with plain_server(lambda question: release.wait(30) and None) as address:
        policy = RemotePolicy(address)
        with pytest.raises(InputError, match="not answered for"):
            policy.actions(*shown(1), "x")
        release.set()
        policy.close()


def test_no_server_says_what_to_do():
    with our_server() as address:
        pass
    for wrong in (address, "ws://host.invalid:8000", "ws://", "ws://127.0.0.1:99999"):
        with pytest.raises(InputError, match="No policy server answers at"):
            RemotePolicy(wrong)


@pytest.mark.parametrize(
    ("metadata", "words"),
    [
        ("it cannot start", "it cannot start"),
        (b"\xc1", "no msgpack"),
        (pack([1]), "must be a dictionary"),
        ({SECTION: 5}, "must be a dictionary"),
        ({SECTION: {"fps": "fast"}}, "'fps' is 'fast'"),
        ({SECTION: {"resolution": [1, 2, 3]}}, "resolution"),
        ({SECTION: {"seconds": -1}}, "more than 0"),
        ({SECTION: {"robot": "terminator"}}, "terminator"),
        ({SECTION: {"space": "wheel"}}, "wheel"),
        ({SECTION: {"state_names": ["a"]}}, "no joint"),
        ({SECTION: {"execute": 4}}, "leave the option away"),
    ],
    ids=["text", "bytes", "list", "section", "fps", "size", "seconds", "robot", "space", "joints", "contradiction"],
)
def test_servers_that_say_nonsense_are_refused(metadata, words):
    with plain_server(lambda question: None, metadata) as address, pytest.raises(InputError, match=words):
        RemotePolicy(address, ServerConfig(execute=3))


@pytest.mark.parametrize(
    "wrong",
    [{"execute": 0}, {"space": "wheel"}, {"robot": "nobody"}, {"grip_open": -1.0}, {"prompt_key": ""}, {"blank_keys": ("prompt",)}],
)  # fmt: skip
def test_servers_that_cannot_be_are_refused(wrong):
    with pytest.raises(InputError):
        check_server(replace(ServerConfig(), **wrong))


def test_addresses_are_told_from_folders():
    assert is_server("ws://localhost:8000") and is_server("wss://a.b/c")
    assert not is_server("out/ws") and not is_server("ws")


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({}, "Expected a packed dictionary"),
        ({"observation/image": np.zeros((4, 4, 3))}, "type float64"),
        ({"observation/image": np.zeros((4, 4), np.uint8)}, r"is \(4, 4\)"),
        ({"observation/state": np.zeros(3)}, "panda_joint1"),
        ({"observation/state": np.full(9, np.nan)}, "finite"),
    ],
    ids=["empty", "float", "flat", "joints", "nan"],
)
def test_questions_that_are_none_are_answered_with_words(asked, words):
    from websockets.sync.client import connect

    rgb, state = shown(1)
    question = {"observation/image": rgb[0], "observation/state": state[0]} | asked if asked else {}
    with our_server() as address, connect(address) as socket:
        socket.recv()
        socket.send(pack(question))
        told = socket.recv()
        assert isinstance(told, str) and re.search(words, told)


def test_a_port_in_use_is_refused():
    with our_server() as address, pytest.raises(InputError, match="--port"):
        make_server(Sums, {SECTION: {}}, "127.0.0.1", int(address.rpartition(":")[2]))


CLIENT = """
import sys
import numpy as np
from openpi_client.websocket_client_policy import WebsocketClientPolicy
from openpi_client import msgpack_numpy
given = msgpack_numpy.unpackb(open(sys.argv[2], "rb").read())
client = WebsocketClientPolicy(*sys.argv[1].removeprefix("ws://").split(":"))
told = [client.infer(one)["actions"] for one in given]
open(sys.argv[3], "wb").write(msgpack_numpy.packb([client.get_server_metadata(), told]))
"""

SERVER = """
import asyncio
import numpy as np
import websockets.asyncio.server
from openpi_client import msgpack_numpy
async def handle(socket):
    packer = msgpack_numpy.Packer()
    await socket.send(packer.pack({"reset_pose": np.zeros(7)}))
    async for message in socket:
        seen = msgpack_numpy.unpackb(message)
        told = np.concatenate([seen["observation/state"][:7], [seen["observation/image"].sum() / 1e6]])
        await socket.send(packer.pack({"actions": np.tile(told, (4, 1)), "server_timing": {"infer_ms": 1.0}}))
async def main():
    async with websockets.asyncio.server.serve(handle, "127.0.0.1", 0, compression=None, max_size=None) as server:
        print(server.sockets[0].getsockname()[1], flush=True)
        await server.serve_forever()
asyncio.run(main())
"""


@pytest.mark.skipif(not OPENPI, reason="set PHOTOTWIN_OPENPI_PYTHON to a Python that has openpi-client")
def test_openpis_client_talks_to_our_server(tmp_path):
    rgb, state = shown(3)
    given = [{"observation/image": a, "observation/state": b, "prompt": "go"} for a, b in zip(rgb, state, strict=True)]
    (tmp_path / "given").write_bytes(pack(given))
    with our_server() as address:
        command = [OPENPI, "-c", CLIENT, address, str(tmp_path / "given"), str(tmp_path / "told")]
        subprocess.run(command, check=True, timeout=60, env={"PATH": os.environ["PATH"]})
    metadata, told = unpack((tmp_path / "told").read_bytes())
    assert metadata[SECTION]["robot"] == "panda" and metadata[SECTION]["resolution"] == [32, 24]
    direct = Sums()
    direct.begin(1, 0)
    for i in range(3):
        assert np.array_equal(told[i], direct.actions(rgb[i : i + 1], state[i : i + 1], "go")[0])


@pytest.mark.skipif(not OPENPI, reason="set PHOTOTWIN_OPENPI_PYTHON to a Python that has openpi-client")
def test_our_client_talks_to_a_server_with_openpis_packing():
    rgb, state = shown(3)
    with subprocess.Popen([OPENPI, "-c", SERVER], stdout=subprocess.PIPE, text=True, env={"PATH": os.environ["PATH"]}) as server:  # fmt: skip
        try:
            assert server.stdout is not None
            policy = RemotePolicy(f"ws://127.0.0.1:{int(server.stdout.readline())}", ServerConfig(execute=4))
            told = policy.actions(rgb, state, "x")
            policy.close()
        finally:
            server.kill()
    assert np.array_equal(told[:, 0, :7], state[:, :7])
    assert np.allclose(told[:, 3, 7], rgb.sum((1, 2, 3), dtype=np.int64) / 1e6)
