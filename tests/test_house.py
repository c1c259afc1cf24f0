"""The laws of the house, read off the syntax tree and the list of committed files."""

import ast
import importlib.metadata
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import phototwin

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "extensions/phototwin/phototwin"

LAYERS = (
    {"kernels"},
    {"perceive", "backends", "build", "stage"},
    {"plan", "blend", "data", "view"},
    {"learn"},
    {"pipeline"},
    {"kit"},
)
"""A room imports itself, rooms of lower layers, and the hall: the single files beside the rooms, lower than all of them."""

ONLY_IN = {
    "pxr": {"stage"},
    "omni": {"kit"},
    "warp": {"kernels", "blend"},
    "lerobot": {"data", "learn"},
    "h5py": {"data"},
    "tensorflow": {"data"},
    "tensorflow_datasets": {"data"},
    "isaaclab": set(),
    "isaaclab_tasks": set(),
    "phototwin_tasks": set(),
    "gymnasium": set(),
}
"""Libraries with one home; in the others they would tie a room to what it must not know."""

HEAVY = {"torch", "tensorflow", "transformers", "diffusers", "warp", "cv2", "scipy", "trimesh", "pxr", "h5py", "av", "jinja2", "lerobot", "isaaclab", "pinocchio", "PIL", "websockets", "msgpack", "onnx"}  # fmt: skip
NETWORKS = {"cloning", "export", "eye", "lerobot_policies", "policy", "train"}
"""Files of ``learn`` that define or hold classes of torch."""
UNLOCKED = ("rlds",)
"""Extras that are not in the lock: TensorFlow is 1.5 GB and wants an older h5py, for one converter."""
MAX_FILE_BYTES = 1_500_000
MAX_LINES = 500


def committed(*patterns):
    """Files that git tracks, of the given patterns; skips where this is no git checkout."""
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    listed = subprocess.run(["git", "ls-files", "-z", *patterns], cwd=ROOT, capture_output=True, text=True, check=True)
    return [ROOT / name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]


def imports(file):
    """Names of the modules that a file imports anywhere in it: (line, dotted name)."""
    for node in ast.walk(ast.parse(file.read_text(), str(file))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}:{node.lineno} imports relatively"
            assert node.module
            yield node.lineno, node.module
            if node.module == "phototwin":  # ``from phototwin import pipeline`` names a room too
                yield from ((node.lineno, f"phototwin.{alias.name}") for alias in node.names if alias.name[0] != "_")


def room(parts):
    """Room of a module given by its path inside the package."""
    return parts[0] if parts else ""


def layer(name):
    if not name or (name != "pipeline" and (SOURCE / f"{name}.py").is_file()):
        return -1
    return next(i for i, names in enumerate(LAYERS) if name in names)


def test_every_folder_is_a_room():
    rooms = {p.name for p in SOURCE.iterdir() if p.is_dir() and p.name != "__pycache__"}
    assert rooms == set().union(*LAYERS) - {"pipeline"}


def test_import_law():
    broken = []
    for file in SOURCE.rglob("*.py"):
        here = room([p for p in file.relative_to(SOURCE).with_suffix("").parts if p != "__init__"])
        for line, name in imports(file):
            top, *inside = name.split(".")
            if top == "phototwin":
                there = room(inside)
                if there != here and not (layer(there) < layer(here) or layer(there) == layer(here) == -1):
                    broken.append(f"{file.relative_to(ROOT)}:{line}: '{here}' imports '{there}'")
            elif name.startswith("omni.asset_validator"):  # a package of its own, not Kit
                if here != "stage":
                    broken.append(f"{file.relative_to(ROOT)}:{line}: '{here}' imports {name}")
            elif top in ONLY_IN and here not in ONLY_IN[top]:
                broken.append(f"{file.relative_to(ROOT)}:{line}: '{here}' imports {top}")
    assert not broken, "\n".join(broken)


def test_the_hall_loads_nothing_heavy():
    code = (
        "import sys, phototwin.scene, phototwin.frames, phototwin.episode, phototwin.errors, phototwin.robots,"
        f" phototwin.kit.model; print(*sorted(set(sys.modules) & {HEAVY!r}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == ""


def test_every_room_imports_without_its_heavy_libraries():
    names = [
        ".".join(("phototwin", *file.relative_to(SOURCE).with_suffix("").parts)).removesuffix(".__init__")
        for file in sorted(SOURCE.rglob("*.py"))
        if file.name not in ("window.py", "extension.py")
        and not (file.parent.name == "learn" and file.stem in NETWORKS)
    ]
    allowed = {"warp", "PIL", "pxr"}  # the kernels are Warp, images are Pillow, stage is where pxr lives
    code = "import importlib, sys\nfor name in {!r}: importlib.import_module(name)\nprint(*sorted(set(sys.modules) & {!r}))"
    done = subprocess.run(
        [sys.executable, "-c", code.format(names, HEAVY - allowed)], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().splitlines()[-1:] in ([], [""]), f"loaded on import: {done.stdout}"


MACHINE = re.compile(
    r"""(?<![\w.])(?:/work/|/tmp/|/root/|/home/[a-z]|/opt/(?:pypi|wheels)|/Users/[a-z]|C:\\Users)"""
    r"""|index-url[= ]+http|/simple/|\.whl\#|pypi\.org|pythonhosted|huggingface\.co/[\w-]+/[\w-]+/resolve|https?://[^\s)"']+\.(?:zip|tar|gz|whl|pth|safetensors|ckpt|usd\w?)\b"""
)  # fmt: skip


def test_no_machine_paths_registries_or_downloads():
    found = []
    for file in committed():
        if file == Path(__file__).resolve() or file.suffix in (".png", ".jpg", ".mp4", ".npz", ".gif"):
            continue
        for number, line in enumerate(file.read_text(errors="replace").splitlines(), 1):
            if MACHINE.search(line):
                found.append(f"{file.relative_to(ROOT)}:{number}: {line.strip()[:100]}")
    assert not found, "\n".join(found)


def test_files_are_small():
    large = [f"{f.relative_to(ROOT)}: {f.stat().st_size}" for f in committed() if f.stat().st_size > MAX_FILE_BYTES]
    long = [
        f"{f.relative_to(ROOT)}: {n} lines" for f in committed("*.py") if (n := f.read_bytes().count(b"\n")) > MAX_LINES
    ]
    assert not large + long, "\n".join(large + long)


def test_every_package_is_pinned_by_hash_and_no_index_is_named():
    text = (ROOT / "requirements.lock").read_text()
    assert "://" not in text and "--index" not in text and "--find-links" not in text
    entries = re.split(r"\n(?=[A-Za-z0-9])", "\n".join(x for x in text.splitlines() if not x.lstrip().startswith("#")))
    for entry in filter(str.strip, entries):
        assert re.match(r"[A-Za-z0-9_.\-\[\]]+==[^\s]+( ;[^\\]*)? \\\n +--hash=sha256:[0-9a-f]{64}", entry.lstrip()), (
            entry[:80]
        )


def test_what_the_project_needs_is_in_the_lock():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    locked = {
        m[1].lower().replace("_", "-").replace(".", "-")
        for m in re.finditer(r"^([A-Za-z0-9_.\-]+)==", (ROOT / "requirements.lock").read_text(), re.M)
    }
    extras = [name for key, group in project["optional-dependencies"].items() if key not in UNLOCKED for name in group]
    wanted = {re.split(r"[\[=<>~ ]", name)[0].lower() for name in [*project["dependencies"], *extras]}
    assert wanted <= locked
    assert "usd-core" not in locked


def test_usd_core_is_not_installed():
    """It would overwrite the pxr of usd-exchange and break both."""
    with pytest.raises(importlib.metadata.PackageNotFoundError):
        importlib.metadata.version("usd-core")


def test_the_versions_agree_and_the_extension_names_a_module_that_exists():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extension = tomllib.loads((ROOT / "extensions/phototwin/config/extension.toml").read_text())
    assert project["version"] == extension["package"]["version"] == phototwin.__version__
    assert f"## {phototwin.__version__}" in (ROOT / "CHANGELOG.md").read_text()
    for module in extension["python"]["module"]:
        file = ROOT / "extensions/phototwin" / (module["name"].replace(".", "/") + ".py")
        assert file.is_file()
        classes = [n for n in ast.parse(file.read_text()).body if isinstance(n, ast.ClassDef)]
        assert any(ast.unparse(base) == "omni.ext.IExt" for c in classes for base in c.bases)


def test_scripts_say_what_they_do_and_how_they_are_called():
    for file in (ROOT / "scripts").glob("*.py"):
        text = ast.get_docstring(ast.parse(file.read_text())) or ""
        assert f"scripts/{file.name}" in text, f"{file.name}: the docstring lacks the command"
        assert len(text.partition("\n")[0]) <= 120
