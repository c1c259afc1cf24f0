"""Scripts say errors in one line and exit with a status that shells understand."""

import subprocess
import sys

SCRIPT = """
from dataclasses import dataclass
from phototwin.console import run_script
from phototwin.errors import InputError
@dataclass(frozen=True)
class Args:
    '''Args.'''
    what: str
def main(args):
    if args.what == 'error': raise InputError('It is broken: mend it.')
    if args.what == 'interrupt': raise KeyboardInterrupt
    print('fine')
    return 0
run_script(Args, main)
"""


def run(what):
    return subprocess.run([sys.executable, "-c", SCRIPT, "--what", what], capture_output=True, text=True)


def test_success():
    assert (run("ok").returncode, run("ok").stdout) == (0, "fine\n")


def test_twin_error_is_one_line_and_status_2():
    done = run("error")
    assert (done.returncode, done.stderr) == (2, "error: It is broken: mend it.\n")


def test_interrupt_says_how_to_go_on():
    done = run("interrupt")
    assert done.returncode == 130 and "--resume" in done.stderr


def test_logged_to_catches_c_level_output_and_frees_the_terminal(tmp_path):
    code = (
        "import os, sys\nfrom pathlib import Path\nfrom phototwin.console import logged_to\n"
        "with logged_to(Path(sys.argv[1])) as terminal:\n"
        "    os.write(1, b'noise\\n'); print('python noise'); terminal.write('seen\\n')\n"
        "print('after')"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "log.txt")], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "after\n", "seen\n")
    assert set((tmp_path / "log.txt").read_text().split("\n")) == {"noise", "python noise", ""}
