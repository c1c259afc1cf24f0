"""The ``phototwin`` command: ``phototwin VERB ...`` runs ``scripts/VERB.py`` of the repository."""

from __future__ import annotations

import ast
import runpy
import sys
from pathlib import Path

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"


def verbs(folder: Path = SCRIPTS) -> dict[str, str]:
    """What can be done: name of each script and the first line of its docstring."""
    return {
        file.stem: (ast.get_docstring(ast.parse(file.read_text())) or "").partition("\n")[0]
        for file in sorted(folder.glob("*.py"))
        if not file.stem.startswith("_")
    }


def usage(known: dict[str, str]) -> str:
    """The help text."""
    width = max(map(len, known), default=0)
    lines = [f"  {name:<{width}}  {line}" for name, line in known.items()]
    return "\n".join(["usage: phototwin VERB [options]    (phototwin VERB --help lists the options)", "", *lines])


def main(arguments: list[str] | None = None) -> int:
    """Run a verb as if its script had been called; returns the exit status of everything that goes wrong before that."""
    arguments = sys.argv[1:] if arguments is None else arguments
    known = verbs()
    if not known:
        sys.stderr.write(
            f"phototwin: there are no scripts in '{SCRIPTS}': install with 'pip install -e' from a clone.\n"
        )
        return 2
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        sys.stdout.write(usage(known) + "\n")
        return 0 if arguments else 2
    verb = arguments[0].replace("-", "_")
    if verb not in known:
        sys.stderr.write(f"phototwin: unknown verb '{arguments[0]}'. Choose one of: {', '.join(known)}.\n")
        return 2
    script = str(SCRIPTS / f"{verb}.py")
    sys.argv = [script, *arguments[1:]]
    runpy.run_path(script, run_name="__main__")
    return 0
