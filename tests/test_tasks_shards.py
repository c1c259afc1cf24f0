"""Runs in shards: whoever makes them and however often they are killed, the same dataset; nothing lost, nothing broken."""

import json
import os
import random
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from shard_helpers import SIZE, fake_run, generate
from test_data import datasets

from phototwin.data.hdf5 import state_sha256
from phototwin.data.store import Attempt, EpisodeStore, read_demos
from phototwin.errors import InputError, OutputError, PlanError
from phototwin_tasks.generate import ledger as ledger_module
from phototwin_tasks.generate.config import Crew, GenerateConfig, check_crew, complete_config
from phototwin_tasks.generate.jobs import load_run, save_run
from phototwin_tasks.generate.ledger import Claims, Ledger, ShardResult
from phototwin_tasks.generate.pools import ProcessPool
from phototwin_tasks.generate.schedule import (
    Shard,
    certain,
    demonstrations,
    is_whole,
    job_state,
    next_shard,
    quotas,
)
from phototwin_tasks.generate.worker import Order

TESTS = Path(__file__).resolve().parent
TASKS = ("pick up the cube", "pick up the other cube", "pick up the third cube")


def outcomes(job, index, text, size=4):
    """A shard's attempts from a string: + for success, - for failure."""
    return tuple(
        Attempt(index * size + i, mark == "+", "" if mark == "+" else "slip", 5, f"{job}-{index}-{i}", job)
        for i, mark in enumerate(text)
    )


def results_of(*jobs):
    return {
        Shard(j, k, 4): outcomes(j, k, text) for j, texts in enumerate(jobs) for k, text in enumerate(texts) if text
    }


# -- which shard, when whole, which demonstrations


def test_only_shards_in_order_count():
    results = results_of(["++-+", "", "++++"])
    state = job_state(0, 4, results)
    assert [a.index for a in state.successes] == [0, 1, 3] and state.tried == 4 and not state.hopeless
    assert state.failures == {"slip": 1}


def test_a_task_is_given_up_by_its_first_attempts_alone():
    assert job_state(0, 4, results_of(["----", "----", "++++"])).hopeless
    assert not job_state(0, 4, results_of(["----", "---+"])).hopeless
    few = job_state(0, 4, results_of(["+---", *["----"] * 9, "++++"]))
    assert few.hopeless and few.tried == 40 and len(few.successes) == 1


def test_what_a_hopeless_task_falls_short_of_is_shared():
    states = [job_state(j, 4, results_of(["++++"] * 3, ["----"] * 2, ["++++"] * 3)) for j in range(3)]
    assert quotas([4, 3, 3], states) == [6, 0, 4]
    order = [a.key for a in demonstrations([4, 3, 3], states)]
    assert order == [*((0, i) for i in range(4)), *((2, i) for i in range(3)), (0, 4), (0, 5), (2, 3)]
    assert is_whole([4, 3, 3], states) and [a.key for a in certain([4, 3, 3], states)] == order


def test_the_certain_head_only_grows():
    """Whatever the order in which shards finish, nothing that was given to the dataset is taken back."""
    rng = random.Random(3)
    texts = ["".join(rng.choice("++-") for _ in range(4)) for _ in range(30)]
    whole = {Shard(j, k, 4): outcomes(j, k, texts[10 * j + k]) for j in range(3) for k in range(10)}
    whole |= {Shard(1, k, 4): outcomes(1, k, "----") for k in range(10)}
    wanted = [5, 5, 4]
    final = [a.key for a in demonstrations(wanted, [job_state(j, 4, whole) for j in range(3)])]
    for _ in range(20):
        done, before, shards = {}, [], list(whole)
        rng.shuffle(shards)
        for shard in shards:
            done[shard] = whole[shard]
            states = [job_state(j, 4, done) for j in range(3)]
            now = [a.key for a in certain(wanted, states)]
            assert now[: len(before)] == before
            before = now
        assert before == final


def test_no_more_shards_than_needed_are_begun_and_a_worker_keeps_its_job():
    none = [job_state(j, 4, {}) for j in range(2)]
    assert next_shard([8, 8], none, 4, {}, set(), None) == Shard(0, 0, 4)
    assert next_shard([8, 8], none, 4, {}, {Shard(0, 0, 4)}, prefer=1) == Shard(1, 0, 4)
    taken = {Shard(0, k, 4) for k in range(3)}
    assert next_shard([8, 8], none, 4, {}, taken, prefer=0) == Shard(1, 0, 4)
    taken |= {Shard(1, k, 4) for k in range(3)}
    assert next_shard([8, 8], none, 4, {}, taken, None) is None
    done = results_of(["++++", "+---", ""])
    states = [job_state(0, 4, done)]
    assert next_shard([8], states, 4, done, set(), 0) == Shard(0, 2, 4)


# -- the record


def result(shard, **fields):
    return ShardResult(shard, outcomes(shard.job, shard.index, "+-++"), ("a", "b", "c", "d"), **fields)


def test_results_come_back_and_broken_records_are_named(tmp_path):
    ledger, shard = Ledger(tmp_path, 4), Shard(2, 7, 4)
    ledger.finish(result(shard, cpu_s=1.5, host="here"))
    assert Ledger(tmp_path, 4).results() == {shard: result(shard, cpu_s=1.5, host="here")}
    file = tmp_path / "shards/shard_002_00007.json"
    file.write_text(file.read_text()[:40])
    with pytest.raises(OutputError, match="shard_002_00007"):
        Ledger(tmp_path, 4).results()


def test_a_shard_that_ends_its_worker_twice_is_set_aside(tmp_path):
    ledger, shard = Ledger(tmp_path, 4), Shard(0, 0, 4)
    assert not ledger.trouble(shard, "status -9")
    assert not ledger.results() and Ledger(tmp_path, 4).trouble(shard, "status -11")
    assert Ledger(tmp_path, 4).results()[shard].reason == "status -11"


def test_one_process_gets_a_claim(tmp_path):
    claims, shard = [Claims(Ledger(tmp_path, 4)) for _ in range(2)], Shard(0, 3, 4)
    assert claims[0].take(shard) and not claims[0].take(shard)
    code = (
        "import sys; from pathlib import Path; from phototwin_tasks.generate.ledger import *\n"
        "print(Claims(Ledger(Path(sys.argv[1]), 4)).take(Shard(0, 3, 4)))"
    )

    def other():
        return subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True).stdout

    assert other() == "False\n"
    claims[0].release(shard)
    assert other() == "True\n"  # and it has ended since: its claim is void
    assert claims[1].take(shard)


def test_what_another_has_finished_meanwhile_is_not_claimed_again(tmp_path):
    """Between a look at the results and a claim another process may finish the shard and give its claim back."""
    ledgers, shard = [Ledger(tmp_path, 4) for _ in range(2)], Shard(0, 0, 4)
    one, other = (Claims(ledger) for ledger in ledgers)
    assert one.take(shard) and not ledgers[1].results()
    ledgers[0].finish(ShardResult(shard, ()))
    one.release(shard)
    assert not other.take(shard) and len(list((tmp_path / "shards").glob("*.claim-*"))) == 1
    ledgers[0].reopen(shard)
    assert other.take(shard)


def test_claims_of_machines_that_are_gone_are_passed_over(tmp_path):
    claims, shard = Claims(Ledger(tmp_path, 4)), Shard(0, 0, 4)
    (tmp_path / "shards").mkdir()
    file = tmp_path / "shards/shard_000_00000.claim-0"
    file.write_text("elsewhere 17\n")
    assert not claims.take(shard)
    long_ago = time.time() - ledger_module.STALE_S - 60
    os.utime(file, (long_ago, long_ago))
    assert claims.take(shard) and (tmp_path / "shards/shard_000_00000.claim-1").is_file()


def test_many_at_once_share_shards_without_doing_one_twice(tmp_path):
    code = (
        "import sys; from pathlib import Path; from phototwin_tasks.generate.ledger import *\n"
        "claims = Claims(Ledger(Path(sys.argv[1]), 4))\n"
        "print(*[k for k in range(40) if claims.take(Shard(0, k, 4))]); sys.stdout.flush(); sys.stdin.read()"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    crew = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    got = [process.stdout.readline().split() for process in crew]
    for process in crew:
        process.communicate()
    assert sorted(int(k) for part in got for k in part) == list(range(40))


# -- whole runs


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    return folder, generate(fake_run(folder, 21, TASKS))


def content(folder):
    return datasets(folder / "demos/episodes.hdf5"), (folder / "demos/lerobot/files.txt").read_text()


def test_a_run_is_one_dataset_of_all_its_tasks_in_order(whole):
    folder, made = whole
    demos = list(read_demos(folder / "demos/episodes.hdf5"))
    keys = [(e.task_index, e.attempt) for e in demos]
    assert len(demos) == made.num_demos == 21 and keys == sorted(keys) and {k for k, _ in keys} == {0, 1, 2}
    assert all(e.success for e in demos)
    for demo in demos:
        assert made.attempts[[a.key for a in made.attempts].index((demo.task_index, demo.attempt))].success
    failed = [a for a in made.attempts if not a.success]
    store = EpisodeStore(folder / "demos")
    assert failed and all(store.picture(a.index, a.task).is_file() for a in failed)
    assert made.tally.by_task["lift cube_0"][1] >= 7 and made.tally.failures == {"grasp": len(failed)}
    status = json.loads((folder / "status.json").read_text())
    assert status["demonstrations"] == 21 and status["cpu_s"] > 0
    assert not list(folder.rglob("*.partial"))


def test_the_same_seed_twice_gives_the_same_bytes(whole, tmp_path):
    generate(fake_run(tmp_path, 21, TASKS))
    assert content(tmp_path) == content(whole[0])
    generate(fake_run(tmp_path / "other", 21, TASKS, seed=1))
    assert content(tmp_path / "other")[0] != content(whole[0])[0]


def test_processes_give_the_dataset_of_one(whole, tmp_path):
    made = generate(fake_run(tmp_path, 21, TASKS), workers=3)
    assert content(tmp_path) == content(whole[0])
    assert made.notes == {"maker": "fake"}


def test_parts_in_a_shared_folder_give_it_too(whole, tmp_path):
    run = fake_run(tmp_path, 21, TASKS)
    with pytest.raises(OutputError, match="--part work"):
        generate(run, part="merge")
    crew = [subprocess.Popen(command(tmp_path, 1, "work"), env=environment(0.02)) for _ in range(3)]
    assert [process.wait(60) for process in crew] == [0, 0, 0]
    generate(run, part="merge")
    assert content(tmp_path) == content(whole[0])
    hosts = [r for r in Ledger(tmp_path / "demos", SIZE).results().values()]
    claims = list((tmp_path / "demos/shards").glob("*.claim-*"))
    assert len(claims) == len(hosts), "a shard was made twice"


def command(folder, workers, part):
    return [sys.executable, str(TESTS / "shard_helpers.py"), str(folder), str(workers), part]


def environment(delay):
    return os.environ | {"FAKE_DELAY": str(delay), "PYTHONPATH": str(TESTS)}


def files_of(folder):
    return {file.name for file in (folder / "episodes").glob("attempt_*.hdf5")}


@pytest.mark.parametrize(("workers", "part", "kills"), [(1, "all", 10), (2, "all", 2), (1, "work", 2)])
def test_kill_9_at_ten_moments_loses_no_finished_episode_and_stores_no_broken_one(
    whole, tmp_path, workers, part, kills
):
    rng, folder = random.Random(workers), tmp_path / "demos"
    run = fake_run(tmp_path, 21, TASKS)
    seen = {}
    for _ in range(kills):
        process = subprocess.Popen(command(tmp_path, workers, part), env=environment(0.05), stderr=subprocess.DEVNULL)
        until = time.monotonic() + 5
        while process.poll() is None and files_of(folder) == set(seen) and time.monotonic() < until:
            time.sleep(0.003)
        time.sleep(0.15 * rng.random())
        process.kill()
        process.wait()
        now = {}
        for file in sorted((folder / "episodes").glob("attempt_*.hdf5")):
            (episode,) = read_demos(file)
            with h5py.File(file) as stream:
                assert stream["data/demo_0"].attrs["state_sha256"] == state_sha256(episode), "a broken episode"
            now[file.name] = state_sha256(episode)
        finished = [a for r in Ledger(folder, SIZE).results().values() for a in r.attempts]
        store = EpisodeStore(folder)
        in_files = set(now) | {store.path(a.index, a.task).name for a in store.packed()}
        assert {store.path(a.index, a.task).name for a in finished} <= in_files, "a finished episode is lost"
        assert all(now.get(name, digest) == digest for name, digest in seen.items())
        assert set(seen) <= in_files
        seen |= now
        if (folder / "episodes.hdf5").is_file():
            assert all(np.isfinite(e.action).all() for e in read_demos(folder / "episodes.hdf5"))
    generate(run)
    assert content(tmp_path) == content(whole[0])


def test_missing_and_broken_files_of_finished_shards_are_made_again(whole, tmp_path):
    run = fake_run(tmp_path, 21, TASKS)
    generate(run, part="work")
    store = EpisodeStore(tmp_path / "demos")
    store.path(1, 0).unlink()
    broken = store.path(4, 1)
    content_of = bytearray(broken.read_bytes())
    content_of[len(content_of) // 2] ^= 1
    broken.write_bytes(content_of)
    with pytest.raises(OutputError, match="--part work again"):
        generate(run, part="merge")
    generate(run, part="work")
    with pytest.raises(OutputError, match="broken or missing"):
        generate(run, part="merge")
    generate(run)
    assert content(tmp_path) == content(whole[0])


def test_a_run_goes_on_to_more_demonstrations(whole, tmp_path):
    run = fake_run(tmp_path, 9, TASKS)
    generate(run)
    before = content(tmp_path)
    generate(load_run(tmp_path))
    assert content(tmp_path) == before
    longer = replace(run, config=replace(run.config, num_demos=21))
    save_run(longer)
    generate(longer, workers=2)
    assert content(tmp_path) == content(whole[0])


# -- what goes wrong


def test_a_shard_that_kills_its_worker_is_set_aside_and_the_rest_is_made(tmp_path):
    made = generate(fake_run(tmp_path, 9, ("pick up the cube that dies",)), workers=2)
    assert made.num_demos == 9
    assert not [a for a in made.attempts if a.index in Shard(0, 1, SIZE).attempts]
    (aside,) = made.set_aside
    assert aside.kind == "crash" and "status -9" in aside.reason and made.tally.failures["crash"] == SIZE


def test_a_worker_that_dies_once_costs_nothing(tmp_path):
    made = generate(fake_run(tmp_path, 7, ("pick up the cube that falls once",)), workers=2)
    plain = generate(fake_run(tmp_path / "plain", 7, ("pick up the cube",)))
    assert made.num_demos == 7 and not made.set_aside
    assert [a.state_sha256 for a in made.attempts[:8]] == [a.state_sha256 for a in plain.attempts[:8]]


def test_a_bug_in_one_shard_is_told_and_passed_over(tmp_path):
    made = generate(fake_run(tmp_path, 6, ("pick up the cube that raises",)))
    assert made.num_demos == 6 and "a bug" in made.set_aside[0].reason


def test_a_task_out_of_reach_leaves_its_share_to_the_others(tmp_path):
    texts = ("pick up the unreachable cube", "pick up the cube", "never pick up the cube")
    made = generate(fake_run(tmp_path, 9, texts), workers=2)
    assert made.num_demos == 9 and {a.task for a in made.attempts if a.success} == {1}
    assert [(s.what, s.kind) for s in made.set_aside] == [(texts[0], "plan"), (texts[2], "plan")]
    assert "out of reach" in made.set_aside[0].reason and "0 of 8" in made.set_aside[1].reason


def test_a_single_task_that_cannot_be_done_ends_the_run(tmp_path):
    with pytest.raises(PlanError, match="out of reach"):
        generate(fake_run(tmp_path / "a", 9, ("pick up the unreachable cube",)))
    with pytest.raises(PlanError, match=r"0 of 8 attempts.*grasp"):
        generate(fake_run(tmp_path / "b", 9, ("never pick up the cube",)))


def test_a_worker_that_hangs_is_ended(tmp_path):
    run = fake_run(tmp_path, 4, ("pick up the cube that hangs",))
    pool = ProcessPool(run.config, 1, 1, "shard_helpers:FakeMaker", timeout_s=3.0)
    try:
        order = Order(Shard(0, 0, SIZE), run.jobs[0], tmp_path, run.folder)
        pool.start(0, order)
        assert not pool.idle()
        began, ended = time.monotonic(), []
        while not ended and time.monotonic() - began < 20:
            ended = pool.wait(0.5)
        assert "silent for 3 s" in ended[0].outcome.reason and pool.idle() == {0: None}
        pool._timeout_s = 60.0  # a busy machine starts the next process slowly
        pool.start(0, replace(order, shard=Shard(0, 1, SIZE)))
        ended = []
        while not ended and time.monotonic() - began < 120:
            ended = pool.wait(0.5)
        assert len(ended[0].outcome.attempts) == SIZE
    finally:
        pool.close()


def test_what_cannot_be_meant_is_refused():
    for crew, words in ((Crew(part="half"), "plan, work, merge"), (Crew(-1), "-1"), (Crew(1, "auto", "work"), "--ray")):
        with pytest.raises(InputError, match=words):
            check_crew(crew)
    with pytest.raises(InputError, match="10, 12, 15, 20"):
        complete_config(GenerateConfig(fps=25))
    with pytest.raises(InputError, match="num-tasks"):
        complete_config(GenerateConfig(num_tasks=0))
    assert complete_config(GenerateConfig(num_demos=10)).num_envs == 12
    assert complete_config(GenerateConfig(num_demos=10), tasks=3).num_envs == 5
    assert complete_config(GenerateConfig(num_demos=1000)).num_envs == 16


@pytest.mark.sim
def test_ray_on_two_nodes_gives_the_same_dataset(whole, tmp_path):
    ray = pytest.importorskip("ray")
    cluster_utils = pytest.importorskip("ray.cluster_utils")
    cluster = cluster_utils.Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    try:
        cluster.add_node(num_cpus=1)
        environ = {"env_vars": {"PYTHONPATH": str(TESTS)}}
        ray.init(address=cluster.address, runtime_env=environ, log_to_driver=False)
        assert len(ray.nodes()) == 2
        made = generate(fake_run(tmp_path, 21, TASKS), workers=2, ray=cluster.address)
        assert made.num_demos == 21 and content(tmp_path) == content(whole[0])
        dies = generate(fake_run(tmp_path / "dies", 9, ("pick up the cube that dies",)), workers=2, ray=cluster.address)
        assert dies.num_demos == 9 and dies.set_aside[0].kind == "crash"
    finally:
        ray.shutdown()
        cluster.shutdown()
