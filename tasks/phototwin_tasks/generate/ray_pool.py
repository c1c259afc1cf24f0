"""Shards on a Ray cluster. Nothing needs to be shared but this package: twins travel to the nodes and attempts travel back as bytes."""

from __future__ import annotations

import contextlib
import io
import logging
import shutil
import tarfile
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from phototwin.data.store import EpisodeStore, write_bytes
from phototwin.errors import InputError
from phototwin_tasks.generate.config import GenerateConfig
from phototwin_tasks.generate.ledger import ShardResult
from phototwin_tasks.generate.pools import Ended, Trouble, perform
from phototwin_tasks.generate.worker import Order, Worker


class RayPool:
    """Actors of a Ray cluster, one a core unless told otherwise; one that dies with its node is made again elsewhere.

    Args:
        config: Of the run.
        address: Of the cluster, or "auto".
        maker: What makes episodes.
        count: How many workers; 0 for one a core of the cluster.

    Raises:
        InputError: Ray is not installed, or the cluster does not answer.
    """

    def __init__(self, config: GenerateConfig, address: str, maker: str, count: int = 0) -> None:
        try:
            import ray
        except ImportError as error:
            raise InputError("--ray needs the package 'ray': install the extra 'cluster' of this project.") from error
        self._ray: Any = ray
        self._joined = not ray.is_initialized()
        if self._joined:
            try:
                ray.init(address=address, logging_level=logging.WARNING, log_to_driver=False)
            except (ConnectionError, ValueError, RuntimeError) as error:
                raise InputError(
                    f"No Ray cluster answers at '{address}' ({error}): start it, or leave --ray out."
                ) from error
        count = count or max(1, int(ray.cluster_resources().get("CPU", 1)))
        self._make = lambda: ray.remote(num_cpus=1, max_restarts=0)(_RayWorker).remote(config, maker)
        self._actors: list[Any] = [self._make() for _ in range(count)]
        self._jobs: list[int | None] = [None] * count
        self._under_way: dict[Any, tuple[int, Order]] = {}
        self._twins: dict[str, Any] = {}

    def idle(self) -> dict[int, int | None]:
        """The actors without an order."""
        busy = {worker for worker, _ in self._under_way.values()}
        return {i: job for i, job in enumerate(self._jobs) if i not in busy}

    def start(self, worker: int, order: Order) -> None:
        """Send an order to an actor, and the twin with it where it has not seen it."""
        if order.job.twin_sha256 not in self._twins:
            self._twins[order.job.twin_sha256] = self._ray.put(pack_folder(order.twin))
        self._jobs[worker] = order.job.index
        answer = self._actors[worker].perform.remote(order, self._twins[order.job.twin_sha256])
        self._under_way[answer] = (worker, order)

    def wait(self, seconds: float) -> list[Ended]:
        """What actors answer, and the orders of those that died."""
        if not self._under_way:
            return []
        ready, _ = self._ray.wait(list(self._under_way), num_returns=1, timeout=seconds)
        return [self._answer(answer) for answer in ready]

    def close(self) -> None:
        """End the actors, and leave the cluster."""
        for actor in self._actors:
            with contextlib.suppress(Exception):  # whatever state the cluster is in
                self._ray.kill(actor)
        if self._joined:
            self._ray.shutdown()

    def _answer(self, answer: Any) -> Ended:
        worker, order = self._under_way.pop(answer)
        try:
            outcome, notes, files = self._ray.get(answer)
        except self._ray.exceptions.RayError as error:
            self._actors[worker], self._jobs[worker] = self._make(), None
            last = str(error).strip().splitlines()[-1]
            return Ended(order, Trouble("died", f"its actor ended: {last}"), {})
        if isinstance(outcome, ShardResult):
            for name, content in files.items():
                write_bytes(order.folder / name, content)
        return Ended(order, outcome, notes)


class _RayWorker:
    """An actor: a worker with a folder of its own on its node.

    Args:
        config: Of the run.
        maker: What makes episodes.
    """

    def __init__(self, config: GenerateConfig, maker: str) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="phototwin_ray_"))
        self._worker = Worker(config, 1, maker)

    def perform(self, order: Order, twin: bytes) -> tuple[ShardResult | Trouble, dict[str, str], dict[str, bytes]]:
        """Make a shard: what came of it, notes, and the files of its attempts by their names below ``demos``."""
        here = self._folder / order.job.twin_sha256
        if not here.is_dir():
            unpack_folder(twin, here)
        demos = self._folder / "demos"
        shutil.rmtree(demos, ignore_errors=True)
        outcome = perform(self._worker, replace(order, twin=here, folder=demos))
        files: dict[str, bytes] = {}
        if isinstance(outcome, ShardResult):
            store = EpisodeStore(demos)
            for a in outcome.attempts:
                for file in (store.path(a.index, a.task), store.picture(a.index, a.task)):
                    if file.is_file():
                        files[str(file.relative_to(demos))] = file.read_bytes()
        return outcome, self._worker.notes(), files


def pack_folder(folder: Path) -> bytes:
    """All files of a folder in one tar archive."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        archive.add(folder, ".")
    return stream.getvalue()


def unpack_folder(content: bytes, folder: Path) -> None:
    """What ``pack_folder`` packed, in a new folder."""
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        archive.extractall(folder, filter="data")
