"""The door script and the console command, against stand-ins for Python, uv, df and pytest: no package is installed."""

import hashlib
import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

FAKE_PYTHON = """#!/bin/bash
# Answers like Python 3.12, says what it was asked to run, and makes environments that hold a fake pip.
case "$*" in
  *"sys.version_info[:2]"*) exit 0 ;;
  *"print(sys.executable)"*) echo "$0" ;;
  -V) echo "Python 3.12.1" ;;
  "-m venv "*) mkdir -p "$3/bin"; cp "$0" "$3/bin/python" ;;
  *"pip install"*) [ -z "$FAKE_OFFLINE" ] || { echo "no route to host" >&2; exit 1; }
                   cp "${@: -1}" "$FAKE_LOG.uv_lock"; cp "$FAKE_BIN/fake_uv" "$(dirname "$0")/uv" ;;
  "-m pytest"*) echo "pytest $*" >>"$FAKE_LOG"; echo "$FAKE_PYTEST"; [ -z "$FAKE_PYTEST_STATUS" ] || exit "$FAKE_PYTEST_STATUS" ;;
  *) echo "ran $* warp=$WARP_CACHE_PATH threads=$OMP_NUM_THREADS" ;;
esac
"""

FAKE_UV = """#!/bin/bash
# Says what it was asked to do; "venv" makes one with the fake Python, tools exit as told.
case "$1 $2" in
  "--version "*) exit 0 ;;
  "python find") exit 1 ;;
esac
echo "uv $* compile=$UV_COMPILE_BYTECODE nobytes=$PYTHONDONTWRITEBYTECODE" >>"$FAKE_LOG"
case "$1 $2" in
  "venv "*) mkdir -p "${@: -1}/bin"; touch "${@: -1}/pyvenv.cfg"; cp "$FAKE_BIN/fake_python" "${@: -1}/bin/python" ;;
  "pip sync") sleep "${FAKE_SLEEP:-0}"; [ -z "$FAKE_KILL" ] || kill -9 $PPID; [ -z "$FAKE_OFFLINE" ] || exit 2
              for tool in ruff basedpyright; do
                printf '#!/bin/bash\\nexit "${FAKE_%s:-0}"\\n' "$tool" >"$(dirname "$4")/$tool"; chmod +x "$(dirname "$4")/$tool"
              done ;;
esac
"""


class House:
    """A copy of the door script in a folder of its own, with a PATH that holds only stand-ins and the shell's tools."""

    def __init__(self, folder: Path) -> None:
        self.root, self.bin, self.log = folder / "a clone", folder / "bin", folder / "log"
        self.bin.mkdir()
        self.root.mkdir()
        for name in ("isaaclab.sh", "requirements.lock", "pyproject.toml"):
            shutil.copy(ROOT / name, self.root / name)
        self.put("fake_python", FAKE_PYTHON)
        self.put("fake_uv", FAKE_UV)
        self.put("python3.12", FAKE_PYTHON)
        self.put("uv", FAKE_UV)
        self.free_gb(100)
        tools = "bash cat sha256sum cut dirname mkdir rm mv ls flock tail awk grep sed mktemp tee nproc cp touch sleep chmod"
        for tool in tools.split():
            found = shutil.which(tool)
            assert found, tool
            (self.bin / tool).symlink_to(found)

    def put(self, name: str, text: str) -> None:
        (self.bin / name).write_text(text)
        (self.bin / name).chmod(0o755)

    def free_gb(self, amount: int) -> None:
        self.put(
            "df", f"#!/bin/bash\necho 'Filesystem 1024-blocks Used Available'\necho 'disk 1 1 {amount}000000 1% /'\n"
        )

    def command(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        values = {"PATH": str(self.bin), "HOME": str(self.root / "home"), "FAKE_LOG": str(self.log)}
        values |= {"FAKE_BIN": str(self.bin), "PYTHONDONTWRITEBYTECODE": "1", **environment}
        return subprocess.run(
            [str(self.root / "isaaclab.sh"), *arguments], env=values, capture_output=True, text=True, timeout=60
        )

    def calls(self) -> list[str]:
        return self.log.read_text().splitlines() if self.log.exists() else []


@pytest.fixture
def house(tmp_path):
    return House(tmp_path)


def test_first_use_sets_up_and_later_uses_only_run(house):
    first = house.command("-p", "script.py", "--flag", "two words")
    assert first.returncode == 0, first.stderr
    assert "ran script.py --flag two words" in first.stdout
    assert f"warp={house.root}/.cache/warp" in first.stdout
    calls = house.calls()
    assert [c.split()[1] for c in calls] == ["venv", "pip", "pip"]
    assert "--require-hashes" in calls[1] and calls[1].endswith("compile=1 nobytes=")
    assert "--no-deps" in calls[2] and "-e" in calls[2]
    started = time.perf_counter()
    second = house.command("-p", "again.py", WARP_CACHE_PATH="/w", OMP_NUM_THREADS="3")
    assert time.perf_counter() - started < 1.0
    assert second.stdout == "ran again.py warp=/w threads=3\n" and second.stderr == ""
    assert house.calls() == calls


@pytest.mark.parametrize("file", ["requirements.lock", "pyproject.toml"])
def test_changed_requirements_are_synced_in_place(house, file):
    house.command("-i")
    before = len(house.calls())
    (house.root / file).write_text((house.root / file).read_text() + "\n# changed\n")
    assert house.command("-i").returncode == 0
    assert [c.split()[1] for c in house.calls()[before:]] == ["pip", "pip"]


def test_a_setup_that_was_cut_off_is_redone_from_nothing(house):
    assert house.command("-i", FAKE_KILL="1").returncode != 0
    (house.root / ".venv/half_installed").touch()
    assert house.command("-p", "x.py").returncode == 0
    assert not (house.root / ".venv/half_installed").exists()
    assert not (house.root / ".venv/phototwin.started").exists()
    assert [c.split()[1] for c in house.calls()] == ["venv", "pip", "venv", "pip", "pip"]


def test_a_moved_clone_gets_a_new_environment(house):
    house.command("-i")
    house.root.rename(house.root.with_name("elsewhere"))
    house.root = house.root.with_name("elsewhere")
    assert house.command("-i").returncode == 0
    assert [c.split()[1] for c in house.calls()][3:] == ["venv", "pip", "pip"]


def test_two_first_uses_at_once_set_up_once(house):
    results = []
    threads = [
        threading.Thread(target=lambda: results.append(house.command("-p", "x.py", FAKE_SLEEP="1"))) for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [r.returncode for r in results] == [0, 0]
    assert sum(c.startswith("uv venv") for c in house.calls()) == 1


def test_without_uv_the_pinned_one_is_fetched_by_hash(house):
    (house.bin / "uv").unlink()
    result = house.command("-i")
    assert result.returncode == 0, result.stderr
    lines = Path(f"{house.log}.uv_lock").read_text().splitlines()
    assert lines[0].startswith("uv==") and len(lines) > 1
    assert all(line.strip().startswith("--hash=sha256:") for line in lines[1:])


def test_an_unreachable_index_is_said_when_uv_itself_is_fetched(house):
    (house.bin / "uv").unlink()
    result = house.command("-i", FAKE_OFFLINE="1")
    assert result.returncode == 1 and "package index must be reachable" in result.stderr
    assert not (house.root / ".venv/phototwin.stamp").exists()


def test_an_unreachable_index_is_said_and_leaves_no_stamp(house):
    result = house.command("-p", "x.py", FAKE_OFFLINE="1")
    assert result.returncode == 1 and result.stdout == ""
    assert "package index must be reachable" in result.stderr.splitlines()[-1]
    assert not (house.root / ".venv/phototwin.stamp").exists()
    assert house.command("-p", "x.py").returncode == 0


def test_no_python_wrong_python_and_broken_shims(house):
    broken = "#!/bin/bash\nexit 127\n"
    house.put("python3.12", broken)
    result = house.command("-i")
    assert result.returncode == 1 and "No Python 3.12 was found" in result.stderr
    assert "PHOTOTWIN_PYTHON" in result.stderr and not (house.root / ".venv").exists()
    result = house.command("-i", PHOTOTWIN_PYTHON="/nowhere/python")
    assert result.returncode == 1 and "'/nowhere/python' is not a Python 3.12" in result.stderr
    pyenv = house.root / "home/.pyenv/versions/3.12.1/bin/python"
    pyenv.parent.mkdir(parents=True)
    pyenv.write_text(FAKE_PYTHON)
    pyenv.chmod(0o755)
    assert house.command("-i").returncode == 0
    assert str(pyenv) in house.calls()[0]


def test_too_little_disk_is_said_before_anything_is_made(house):
    house.free_gb(3)
    result = house.command("-p", "x.py")
    assert result.returncode == 1 and "Only 3 GB are free" in result.stderr and "12 GB" in result.stderr
    assert not (house.root / ".venv").exists() and house.calls() == []


def test_a_folder_of_somebody_else_is_not_removed(house, tmp_path):
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious/file").touch()
    result = house.command("-i", PHOTOTWIN_VENV=str(tmp_path / "precious"))
    assert result.returncode == 1 and "no Python environment" in result.stderr
    assert (tmp_path / "precious/file").exists()


def test_all_tests_run_in_two_parts_and_are_summed(house):
    line = "===== 7 passed, 2 skipped in 1.50s ====="
    result = house.command("-t", FAKE_PYTEST=line)
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines()[-1] == "17 passed, 0 failed"  # lint, format, types and twice seven
    runs = [c for c in house.calls() if c.startswith("pytest")]
    assert "-n 2" in runs[0] and "not sim" in runs[0] and runs[1].endswith("-m sim")


@pytest.mark.parametrize(
    ("environment", "last"),
    [
        ({"FAKE_ruff": "1", "FAKE_PYTEST": "3 passed in 0.10s"}, "4 passed, 2 failed"),
        ({"FAKE_basedpyright": "1", "FAKE_PYTEST": "3 passed in 0.10s"}, "5 passed, 1 failed"),
        ({"FAKE_PYTEST": "1 failed, 3 passed, 2 errors in 65.30s (0:01:05)", "FAKE_PYTEST_STATUS": "1"}, "6 passed, 3 failed"),
        ({"FAKE_PYTEST": "Segmentation fault", "FAKE_PYTEST_STATUS": "139"}, "3 passed, 1 failed"),
        ({"FAKE_PYTEST": "12 deselected in 0.10s", "FAKE_PYTEST_STATUS": "5"}, "3 passed, 1 failed"),
    ],
)  # fmt: skip
def test_any_failing_part_fails_the_whole_and_is_counted(house, environment, last):
    result = house.command("-t", "tests/test_x.py", "-k", "word", **environment)
    assert result.returncode == 1
    assert result.stdout.splitlines()[-1] == last and "FAILED" in result.stdout
    assert house.calls()[-1] == "pytest -m pytest --color=no tests/test_x.py -k word"


def test_help_and_wrong_use(house):
    assert "-p SCRIPT" in house.command("-h").stdout and house.command("-h").returncode == 0
    wrong = house.command("--frobnicate")
    assert wrong.returncode == 2 and "usage" in wrong.stderr
    assert house.calls() == []


def test_the_stamp_is_of_both_files(house):
    house.command("-i")
    stamp = (house.root / ".venv/phototwin.stamp").read_text().splitlines()[0]
    both = b"".join((house.root / name).read_bytes() for name in ("requirements.lock", "pyproject.toml"))
    assert stamp == hashlib.sha256(both).hexdigest()


def test_ci_calls_the_door():
    run = (ROOT / ".ci/run").read_text()
    assert "isaaclab.sh" in run and "-t" in run
    assert all(os.access(ROOT / name, os.X_OK) for name in (".ci/run", "isaaclab.sh"))


# ---------------------------------------------------------------- the phototwin command


@pytest.fixture
def cli(tmp_path, monkeypatch):
    from phototwin_tasks import cli

    (tmp_path / "say_it.py").write_text(
        '"""Say what was given.\n\nMore."""\nimport sys\nprint(__name__, sys.argv[1:])\n'
    )
    (tmp_path / "_helper.py").write_text("")
    monkeypatch.setattr(cli, "SCRIPTS", tmp_path)
    monkeypatch.setattr(cli.verbs, "__defaults__", (tmp_path,))
    monkeypatch.setattr(sys, "argv", ["phototwin"])
    return cli


def test_verbs_run_the_scripts(cli, capsys):
    assert cli.verbs() == {"say_it": "Say what was given."}
    assert cli.main(["say-it", "--number", "3"]) == 0
    assert capsys.readouterr().out == "__main__ ['--number', '3']\n"


def test_unknown_verbs_and_help_list_what_there_is(cli, capsys):
    assert cli.main(["dance"]) == 2
    assert "unknown verb 'dance'. Choose one of: say_it." in capsys.readouterr().err
    assert cli.main(["--help"]) == 0
    assert "say_it  Say what was given." in capsys.readouterr().out
    assert cli.main([]) == 2
