"""The output folder: one owner, nothing half-written, the disk's refusals in one sentence."""

import errno
import subprocess
import sys

import pytest

from phototwin.errors import InputError, OutputError
from phototwin.output import LOG_FILE, claim_folder, disk_errors, written_aside


def test_second_owner_is_refused(tmp_path):
    with claim_folder(tmp_path / "run"), pytest.raises(OutputError, match="in use"), claim_folder(tmp_path / "run"):
        pass


def test_owner_in_another_process_is_refused(tmp_path):
    code = "import sys\nfrom pathlib import Path\nfrom phototwin.output import LOG_FILE, claim_folder\nwith claim_folder(Path(sys.argv[1])): pass"
    with claim_folder(tmp_path / "run"):
        done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "run")], capture_output=True, text=True)
    assert done.returncode != 0 and "in use" in done.stderr


def test_freed_after_use(tmp_path):
    for _ in range(2):
        with claim_folder(tmp_path / "run"):
            pass


def test_a_refused_run_leaves_no_folder_of_its_own_but_one_that_was_there_stays(tmp_path):
    for existed in (False, True):
        folder = tmp_path / f"run{existed}"
        if existed:
            folder.mkdir()
        with pytest.raises(InputError), claim_folder(folder):
            (folder / LOG_FILE).write_text("noise")
            raise InputError("no photo")
        assert folder.exists() == existed
    with pytest.raises(InputError), claim_folder(tmp_path / "begun"):
        (tmp_path / "begun/twin").mkdir()
        raise InputError("no such object")
    assert (tmp_path / "begun/twin").is_dir()


def test_a_file_in_the_way(tmp_path):
    (tmp_path / "run").write_text("")
    with pytest.raises(OutputError, match="cannot be written"), claim_folder(tmp_path / "run"):
        pass


def test_nearly_full_disk(tmp_path, monkeypatch):
    from collections import namedtuple

    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage(10**9, 10**9 - 10**6, 10**6))
    with pytest.raises(OutputError, match="MB free"), claim_folder(tmp_path / "run"):
        pass


def test_full_disk_is_one_sentence(tmp_path):
    with pytest.raises(OutputError, match="full"), disk_errors(tmp_path):
        raise OSError(errno.ENOSPC, "No space left on device")


def test_written_aside_appears_whole_or_not_at_all(tmp_path):
    target = tmp_path / "twin"
    with pytest.raises(RuntimeError), written_aside(target) as aside:
        (aside / "part").write_text("half")
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []
    with written_aside(target) as aside:
        (aside / "part").write_text("whole")
    assert (target / "part").read_text() == "whole" and list(tmp_path.iterdir()) == [target]
