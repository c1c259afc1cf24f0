"""Episodes -> a LeRobot v3 dataset, by LeRobot's own writer; as a function, a command and a process beside the rollouts.

``python -m phototwin.data.lerobot STORE OUT`` converts what ``STORE/episodes.hdf5`` holds. With ``-`` for STORE it reads the
names of attempt files from its input, one a line, and converts each as it comes: LeRobot takes 10 s to import and the
simulator leaves time. Only the line ``end`` makes it a dataset; without it (the parent died) nothing is left.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import IO, Any

import numpy as np

from phototwin.build.distractors import is_distractor_key
from phototwin.data.fingerprint import MeansWriter, hash_rows
from phototwin.data.hdf5 import state_sha256
from phototwin.data.store import read_demos
from phototwin.episode import Episode
from phototwin.errors import InputError, OutputError

IMAGE_KEY = "observation.images.photo"
DEPTH_KEY = "observation.images.photo_depth"
LABELS_KEY = "labels"
POSE_NAMES = ("x", "y", "z", "qx", "qy", "qz", "qw")
FACTS_FILE = "meta/phototwin.json"
"""Beside LeRobot's own tables: one entry an episode with what they have no place for."""
MEANS_FILE = "meta/phototwin_frames.npz"
"""Fingerprints of the frames before they were encoded, see ``phototwin.data.fingerprint``."""
END = "end"
CRF = 20
"""Quality of H.264: PSNR about 40 dB on photos; 23 is the codec's default, 18 is called visually lossless."""
GROUP_OF_PICTURES = 8
"""Frames between key frames: training reads single frames, which need decoding from the key frame before."""
STATS_STRIDE = 10
"""Every how many frames the statistics of the images are taken."""
STATS_SIZE = 150
"""Longest side of the image that they are taken of, as LeRobot does."""
FILE_SIZE_MB = 50
"""A video file is copied whole for every episode added to it, so it must not grow large."""


def write_lerobot(
    episodes: Iterable[Episode], folder: Path, name: str = "phototwin", slots: int = 0, truth: bool = False
) -> Path:
    """``folder``, now a LeRobot v3 dataset of ``episodes``, written aside and renamed; one that was there is replaced.

    Features: ``observation.images.photo`` (video), ``observation.state`` (joint positions), ``observation.tcp_pose``,
    ``action``, and ``object_poses`` (7 numbers an object of the photo, as added ones differ between variants), which is no ``observation`` so that no policy takes it for one.
    ``meta/phototwin.json`` has camera, base, seed, success and provenance of every episode, ``meta/phototwin_frames.npz`` a fingerprint of every frame.

    Args:
        episodes: Episodes with frames, all of one robot and frame size; read one at a time.
        folder: The dataset's folder.
        name: The dataset's name (``repo_id``).
        slots: Where scenes differ, ``object_poses`` has room for so many objects: those of the episode's own scene in their order
            (``meta/phototwin.json`` names them), then zeros; a pose without a rotation is none. 0 for one scene, whose objects name the columns.
        truth: Add what ``--keep-raw`` kept, without loss: ``observation.images.photo_depth``, which LeRobot knows as a depth map [mm, 0 = unknown],
            and the image ``labels`` (i + 1 object i, 255 the robot). LeRobot's policies take every image for an input; tell them which ones are.

    Raises:
        InputError: There are no episodes, or one has no frames, more objects than there are slots, or no depth where it is wanted.
        OutputError: The folder cannot be written or the disk is full.
    """
    folder = Path(folder)
    partial = _partial(folder)
    shutil.rmtree(partial, ignore_errors=True)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        _write(iter(episodes), partial, name, slots, truth)
        replace_folder(partial, folder)
    except (OSError, RuntimeError) as error:
        raise OutputError(f"The LeRobot dataset '{folder}' could not be written: {error}. Is the disk full?") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return folder


class LerobotProcess:
    """A process that makes the dataset while episodes are still coming.

    Its import of LeRobot and its encoding then cost no time of their own. ``finish`` must be called for a dataset to exist.

    Args:
        folder: The dataset's folder.
        slots: See ``write_lerobot``.
    """

    def __init__(self, folder: Path, slots: int = 0) -> None:
        self.folder = Path(folder)
        self._log: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 (lives as long as the process)
        command = [sys.executable, "-m", "phototwin.data.lerobot", "-", str(self.folder), str(slots)]
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=self._log, stderr=self._log, text=True, env=environment
        )

    def add(self, file: Path) -> None:
        """Take the demonstrations of ``file`` next; the file must stay until ``finish`` returns."""
        self._send(str(Path(file).absolute()))

    def finish(self) -> Path:
        """The whole dataset, after waiting for it.

        Raises:
            OutputError: The process failed; the message holds its last words.
        """
        self._send(END)
        self._process.communicate()
        if self._process.returncode:
            self._log.seek(0)
            lines = self._log.read().decode(errors="replace").strip().splitlines() or ["no message"]
            raise OutputError(f"The LeRobot dataset '{self.folder}' was not written: {lines[-1]}")
        return self.folder

    def discard(self) -> None:
        """Stop at once and leave nothing; after ``finish`` this does nothing."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
            shutil.rmtree(_partial(self.folder), ignore_errors=True)

    def _send(self, line: str) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # it has failed already; ``finish`` tells why


def replace_folder(new: Path, folder: Path) -> None:
    """Give a folder the name of one that may exist. Killed on the way it leaves the old one, or both beside the name, see ``old_of``."""
    old = old_of(folder)
    if folder.is_dir():
        shutil.rmtree(old, ignore_errors=True)
        os.replace(folder, old)
    os.replace(new, folder)
    shutil.rmtree(old, ignore_errors=True)


def old_of(folder: Path) -> Path:
    """Where a folder is while another takes its name: a name that nobody gives a copy of theirs."""
    return folder.with_name(f".{folder.name}.replaced")


def has_truth(folder: Path) -> bool:
    """Whether a LeRobot dataset has depth and labels.

    Raises:
        InputError: It is none.
    """
    try:
        return DEPTH_KEY in json.loads((folder / "meta/info.json").read_text())["features"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"'{folder}' is no LeRobot dataset ({error}): 'dataset.py verify' tells more.") from error


def _partial(folder: Path) -> Path:
    return folder.with_name(folder.name + ".partial")


def _write(episodes: Iterator[Episode], folder: Path, name: str, slots: int, truth: bool) -> None:
    first = next(episodes, None)
    if first is None:
        raise InputError("There are no demonstrations to make a LeRobot dataset of.")
    dataset, means, facts = None, None, []
    try:
        for episode in itertools.chain([first], episodes):
            steps, frames = len(episode.action), len(episode.rgb)
            if not steps or frames != steps:
                raise InputError(
                    f"Attempt {episode.attempt} has {steps} steps and {frames} frames: LeRobot's dataset needs one for each; "
                    "dataset.py leaves it out with --no-lerobot."
                )
            if truth and len(episode.raw_depth_mm) != steps:
                raise InputError(f"Attempt {episode.attempt} has no depth and masks: make the run with --keep-raw.")
            if dataset is None:
                dataset = _create(first, folder, name, slots, truth)
                means = MeansWriter(folder / MEANS_FILE)
            assert means is not None
            columns = _columns(episode, slots)
            images = _truth_images(episode) if truth else {}
            _add_episode(dataset, episode, columns | images)
            means.add(len(facts), episode.rgb)
            digests = {"rows_sha256": hash_rows(columns[name] for name in sorted(columns))}
            if truth:
                digests["truth_sha256"] = hash_rows(images[name] for name in sorted(images))
            facts.append(lerobot_facts(episode) | digests)
    finally:
        if means is not None:
            means.close()
        if dataset is not None:
            dataset.finalize()  # also where it failed: otherwise the garbage collector does it, and writes into the folder
    (folder / FACTS_FILE).write_text(json.dumps(facts, indent=1) + "\n")


def lerobot_facts(episode: Episode) -> dict[str, Any]:
    """What LeRobot's tables have no place for: camera, base, seed, success and where the episode comes from."""
    return {
        "attempt": episode.attempt,
        "seed": episode.seed,
        "success": episode.success,
        "instruction": episode.instruction,
        "task": episode.task,
        "robot": episode.robot,
        "object_keys": episode.object_keys,
        "base_pose_w": episode.base_pose_w.tolist(),
        "K_px": episode.K_px.tolist(),
        "T_world_camera": episode.T_world_camera.tolist(),
        "state_sha256": state_sha256(episode),
        "provenance": episode.provenance,
    }


def _create(episode: Episode, folder: Path, name: str, slots: int, truth: bool) -> Any:
    os.environ["HF_HUB_OFFLINE"] = "1"  # read when the libraries are imported: nothing may be looked up on the network
    from datasets import disable_progress_bars
    from lerobot.configs.video import RGBEncoderConfig
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    disable_progress_bars()
    even = episode.rgb.shape[1] % 2 == 0 and episode.rgb.shape[2] % 2 == 0
    pix_fmt = "yuv420p" if even else "yuv444p"  # 4:2:0 has half the columns and rows of colour
    encoder = RGBEncoderConfig(vcodec="h264", pix_fmt=pix_fmt, g=GROUP_OF_PICTURES, crf=CRF, preset="veryfast")
    dataset = LeRobotDataset.create(
        repo_id=name,
        fps=round(episode.fps),
        features=_features(episode, slots) | (_truth_features(episode) if truth else {}),
        root=folder,
        robot_type=episode.robot,
        video_backend="pyav",
        rgb_encoder=encoder,
        streaming_encoding=True,  # otherwise every frame takes the way through a PNG file
        video_files_size_in_mb=FILE_SIZE_MB,
    )
    writer: Any = dataset.writer
    writer._streaming_encoder = _EpisodeVideo(round(episode.fps), encoder)
    return dataset


def slot_poses(episode: Episode, slots: int) -> np.ndarray:
    """Poses of the objects of the photo, (T, 7 S) float32, for ``slots`` objects, or those of the episode where that is 0; zeros where there is none.

    Raises:
        InputError: The episode has more objects.
    """
    own = [i for i, key in enumerate(episode.object_keys) if not is_distractor_key(key)]
    if slots and len(own) > slots:
        raise InputError(f"Attempt {episode.attempt} is of a scene with {len(own)} objects, expected at most {slots}.")
    steps = len(episode.action)
    poses = np.zeros((steps, 7 * (slots or len(own))), np.float32)
    poses[:, : 7 * len(own)] = episode.object_poses_w[:, own].reshape(steps, -1)
    return poses


def _columns(episode: Episode, slots: int) -> dict[str, np.ndarray]:
    """The features of an episode that are vectors, each (T, D) float32."""
    columns = {
        "observation.state": episode.joint_pos,
        "observation.tcp_pose": episode.tcp_pose_w,
        "object_poses": slot_poses(episode, slots),
        "action": episode.action,
    }
    return {name: value for name, value in columns.items() if value.shape[1]}  # LeRobot has no features without columns


def _truth_images(episode: Episode) -> dict[str, np.ndarray]:
    """Depth [mm] and labels of an episode, (T, H, W, 1) uint16: of one channel LeRobot takes no other integers."""
    return {DEPTH_KEY: episode.raw_depth_mm[..., None], LABELS_KEY: episode.raw_labels[..., None].astype(np.uint16)}


def _add_episode(dataset: Any, episode: Episode, columns: dict[str, np.ndarray]) -> None:
    for t in range(len(episode.action)):
        row = {name: column[t] for name, column in columns.items()}
        dataset.add_frame({IMAGE_KEY: episode.rgb[t], "task": episode.instruction, **row})
    dataset.save_episode()


class _EpisodeVideo:
    """Encodes the frames of one episode as they come; stands in for LeRobot's ``StreamingVideoEncoder``.

    That one has a queue that drops frames when the machine is busy, and updates 15000 histogram bins for every frame, which
    is most of the time. This one encodes in place and takes the statistics of every ``STATS_STRIDE``-th frame.

    Args:
        fps: Frame rate [Hz].
        config: A LeRobot ``RGBEncoderConfig``.
    """

    def __init__(self, fps: int, config: Any) -> None:
        self._fps, self._config = fps, config
        self._container: Any = None

    def start_episode(self, video_keys: list[str], temp_dir: Path, depth_video_keys: list[str] | None = None) -> None:
        """Open a video file in ``temp_dir``; LeRobot moves it to its place."""
        import av
        from lerobot.datasets.compute_stats import RunningQuantileStats

        assert video_keys == [IMAGE_KEY]  # depth is no video, though LeRobot counts it among them
        av.logging.set_libav_level(av.logging.ERROR)  # x264 reports every file on the terminal
        self._file = Path(tempfile.mkdtemp(dir=temp_dir)) / "episode.mp4"
        self._container = av.open(str(self._file), "w")
        options = self._config.get_codec_options(1, as_strings=True)
        self._stream = self._container.add_stream(self._config.vcodec, self._fps, options=options)
        self._stream.pix_fmt = self._config.pix_fmt
        self._stats, self._count = RunningQuantileStats(), 0

    def feed_frame(self, video_key: str, image: np.ndarray) -> None:
        """Encode one frame (H, W, 3) uint8."""
        import av

        if self._count == 0:
            self._stream.height, self._stream.width = image.shape[:2]
        if self._count % STATS_STRIDE == 0:
            step = -(-max(image.shape) // STATS_SIZE)
            self._stats.update(image[::step, ::step].reshape(-1, 3))
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
        frame.pts, frame.time_base = self._count, Fraction(1, self._fps)
        self._container.mux(self._stream.encode(frame))
        self._count += 1

    def finish_episode(self) -> dict[str, tuple[Path, dict[str, Any]]]:
        """The file and the statistics (0..255) of the episode's video, by its key."""
        self._container.mux(self._stream.encode())
        self._container.close()
        self._container = None
        return {IMAGE_KEY: (self._file, self._stats.get_statistics())}

    def cancel_episode(self) -> None:
        """Give the episode up; its folder goes with the unfinished dataset."""
        if self._container is not None:
            self._container.close()
            self._container = None

    close = cancel_episode


def _features(episode: Episode, slots: int) -> dict[str, Any]:
    def vector(names: Iterable[str]) -> dict[str, Any]:
        names = list(names)
        return {"dtype": "float32", "shape": (len(names),), "names": names}

    own = [key for key in episode.object_keys if not is_distractor_key(key)]
    keys = [f"object_{i}" for i in range(slots)] or own
    vectors = {
        "observation.state": vector(episode.joint_names),
        "observation.tcp_pose": vector(POSE_NAMES),
        "object_poses": vector(f"{key}.{name}" for key in keys for name in POSE_NAMES),
        "action": vector(episode.action_names),
    }
    video = {"dtype": "video", "shape": episode.rgb.shape[1:], "names": ["height", "width", "channels"]}
    return {IMAGE_KEY: video} | {name: value for name, value in vectors.items() if value["names"]}


def _truth_features(episode: Episode) -> dict[str, Any]:
    image = {"dtype": "image", "shape": (*episode.rgb.shape[1:3], 1), "names": ["height", "width", "channels"]}
    return {DEPTH_KEY: image | {"info": {"is_depth_map": True, "depth_unit": "mm"}}, LABELS_KEY: image}


class _EndedEarlyError(Exception):
    """The list of files stopped without its last line."""


def _from_lines(lines: Iterable[str]) -> Iterator[Episode]:
    os.environ["HF_HUB_OFFLINE"] = "1"
    # While the first line is waited for, the slow imports happen.
    import lerobot.datasets.lerobot_dataset  # noqa: F401

    for line in lines:
        if line.strip() == END:
            return
        yield from read_demos(Path(line.rstrip("\n")))
    raise _EndedEarlyError


def main() -> int:
    """The command ``python -m phototwin.data.lerobot STORE|- OUT [SLOTS]``; exit status 0, 1 (error) or 3 (input ended early)."""
    if len(sys.argv) not in (3, 4) or not all(text.isdigit() for text in sys.argv[3:]):
        sys.stderr.write("usage: python -m phototwin.data.lerobot STORE|- OUT [SLOTS]\n")
        return 2
    store, folder, slots = sys.argv[1], Path(sys.argv[2]), int((sys.argv[3:] or ["0"])[0])
    try:
        file = Path(store) / "episodes.hdf5"
        episodes = _from_lines(sys.stdin) if store == "-" else read_demos(file, checked=True)
        write_lerobot(episodes, folder, slots=slots)
    except _EndedEarlyError:
        return 3
    except (InputError, OutputError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
