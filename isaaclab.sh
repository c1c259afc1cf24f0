#!/usr/bin/env bash
# The door that Isaac Lab users know: run a script or the tests in this project's own Python, which is made on first use.
set -euo pipefail

ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)"
VENV="${PHOTOTWIN_VENV:-$ROOT/.venv}"
[[ "$VENV" == /* ]] || VENV="$PWD/$VENV"
PYTHON="$VENV/bin/python"
STAMP="$VENV/phototwin.stamp"      # written last: its presence means the set-up is whole
STARTED="$VENV/phototwin.started"  # present while a set-up is under way, or after one was cut off
NEED_GB=12                         # 11 GB of packages and some room for caches

say() { printf 'isaaclab.sh: %s\n' "$*" >&2; }
die() {
  say "$*"
  exit 1
}

usage() {
  cat <<'END'
usage: ./isaaclab.sh -p SCRIPT [ARGS]   run a Python script, for example scripts/generate.py
       ./isaaclab.sh -t [PYTEST ARGS]   lint, formatting, types and all tests; with arguments, only those tests
       ./isaaclab.sh -i                 only make or mend the environment
       ./isaaclab.sh -h                 this text

The first use makes .venv from requirements.lock (about 12 GB, a few minutes); later uses only compare a stamp.
PHOTOTWIN_PYTHON names the Python 3.12 to use, PHOTOTWIN_VENV another place for the environment.
If you have Isaac Lab 3.0 already, run the same scripts with `isaaclab -p SCRIPT`.
END
}

# ---------------------------------------------------------------- environment

wanted_stamp() {
  # The location counts too: an environment does not survive being moved.
  printf '%s\n%s\n' "$(cat "$ROOT/requirements.lock" "$ROOT/pyproject.toml" | sha256sum | cut -d' ' -f1)" "$ROOT -> $VENV"
}

is_python312() { "$1" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 12))' </dev/null >/dev/null 2>&1; }

find_python() {
  # pyenv's shims exist without working (exit 127), so every candidate is run before it is believed.
  local candidate
  if [[ -n "${PHOTOTWIN_PYTHON:-}" ]]; then
    is_python312 "$PHOTOTWIN_PYTHON" || die "PHOTOTWIN_PYTHON='$PHOTOTWIN_PYTHON' is not a Python 3.12 that runs: name one, or unset it to have one found."
    candidate="$PHOTOTWIN_PYTHON"
  else
    local candidates=(python3.12 "${PYENV_ROOT:-$HOME/.pyenv}"/versions/3.12*/bin/python python3)
    candidates+=("$(UV_PYTHON_DOWNLOADS=never uv python find --no-project 3.12 2>/dev/null || true)")
    for candidate in "${candidates[@]}"; do
      [[ -n "$candidate" ]] && is_python312 "$candidate" && break
      candidate=""
    done
  fi
  [[ -n "$candidate" ]] || die "No Python 3.12 was found (looked for python3.12, pyenv's versions and uv's own): install one, for example with 'pyenv install 3.12' or 'uv python install 3.12', or set PHOTOTWIN_PYTHON to one."
  "$candidate" -c 'import sys; print(sys.executable)'
}

check_disk() {
  local place="$VENV" free_kb
  while [[ ! -d "$place" ]]; do place="$(dirname "$place")"; done
  free_kb="$(df -Pk "$place" | awk 'NR == 2 {print $4}')"
  ((free_kb >= NEED_GB * 1000000)) || die "Only $((free_kb / 1000000)) GB are free at '$place' and the environment needs about $NEED_GB GB: free some space, or set PHOTOTWIN_VENV to a folder on a larger disk."
}

find_uv() { # PYTHON -> path of a uv that runs; a pinned one is fetched into .cache where there is none
  local boot="$ROOT/.cache/uv_boot" found
  for found in uv "$VENV/bin/uv" "$boot/bin/uv"; do
    if "$found" --version >/dev/null 2>&1; then
      command -v "$found"
      return
    fi
  done
  rm -rf "$boot"
  "$1" -m venv "$boot" >/dev/null 2>&1 ||
    die "'$1' cannot make virtual environments: install its venv module (on Debian and Ubuntu: python3.12-venv), or put uv on the PATH."
  awk '/^uv==/ {on = 1} on {print} on && !/\\$/ {exit}' "$ROOT/requirements.lock" >"$boot/uv.lock"
  "$boot/bin/python" -m pip install --quiet --retries 2 --require-hashes --no-deps -r "$boot/uv.lock" >&2 ||
    die "uv could not be fetched (see above): the package index must be reachable for the first use; check the network or set PIP_INDEX_URL, then run this again."
  echo "$boot/bin/uv"
}

set_up() {
  local fresh=1 base uv
  # Keep what an earlier, finished set-up (or a hand-made environment) left, if it still is a Python 3.12 in its place.
  if [[ ! -e "$STARTED" ]] && is_python312 "$PYTHON"; then
    fresh=0
    [[ ! -e "$STAMP" || "$(tail -n 1 "$STAMP")" == "$(wanted_stamp | tail -n 1)" ]] || fresh=1
  fi
  base="$(find_python)"
  if ((fresh)); then
    if [[ -d "$VENV" && -n "$(ls -A "$VENV")" ]]; then
      [[ -e "$VENV/pyvenv.cfg" || -e "$STARTED" ]] || die "'$VENV' is not empty and no Python environment: set PHOTOTWIN_VENV to another folder."
      say "removing the unfinished or moved environment in $VENV"
      rm -rf "$VENV"
    fi
    check_disk
  fi
  uv="$(find_uv "$base")"
  export UV_PYTHON_DOWNLOADS=never UV_COMPILE_BYTECODE=1 UV_HTTP_TIMEOUT="${UV_HTTP_TIMEOUT:-180}"
  [[ -z "${PIP_INDEX_URL:-}" || -n "${UV_DEFAULT_INDEX:-}${UV_INDEX_URL:-}" ]] || export UV_DEFAULT_INDEX="$PIP_INDEX_URL"
  unset PYTHONDONTWRITEBYTECODE # compiled once here, every start afterwards is 5 s faster
  say "first use or new requirements: setting up $VENV with Python $("$base" -V | cut -d' ' -f2); this takes some minutes"
  mkdir -p "$VENV"
  : >"$STARTED"
  rm -f "$STAMP"
  if ((fresh)); then
    "$uv" venv --quiet --allow-existing --python "$base" "$VENV" || die "uv could not make '$VENV' (see above)."
  fi
  "$uv" pip sync --python "$PYTHON" --require-hashes "$ROOT/requirements.lock" ||
    die "The packages could not be installed (see above): the package index must be reachable and the disk must have room; check the network or set UV_DEFAULT_INDEX, then run this again."
  "$uv" pip install --quiet --python "$PYTHON" --no-deps --no-build-isolation -e "$ROOT" ||
    die "The project itself could not be installed (see above): mend what the message names, then run this again."
  wanted_stamp >"$STAMP.partial"
  mv "$STAMP.partial" "$STAMP"
  rm -f "$STARTED"
}

ensure() {
  local wanted
  wanted="$(wanted_stamp)"
  if [[ ! -r "$STAMP" || "$(<"$STAMP")" != "$wanted" || ! -x "$PYTHON" ]]; then
    mkdir -p "$ROOT/.cache"
    exec 9>"$ROOT/.cache/setup.lock"
    flock -n 9 || {
      say "another first use is setting up the environment; waiting for it"
      flock 9
    }
    # The set-up is a process of its own so that `set -e` holds inside and nothing of it stays.
    [[ -r "$STAMP" && "$(<"$STAMP")" == "$wanted" && -x "$PYTHON" ]] || (set_up)
    exec 9>&-
  fi
  export VIRTUAL_ENV="$VENV" PATH="$VENV/bin:$PATH"
  export WARP_CACHE_PATH="${WARP_CACHE_PATH:-$ROOT/.cache/warp}"
  # The arrays here are small: more threads than this cost time instead of saving it.
  local threads
  threads="$(nproc 2>/dev/null || echo 2)"
  ((threads <= 8)) || threads=8
  export OMP_NUM_THREADS="${OMP_NUM_THREADS:-$threads}"
  export OPENBLAS_NUM_THREADS="${OPENBLAS_NUM_THREADS:-$OMP_NUM_THREADS}" MKL_NUM_THREADS="${MKL_NUM_THREADS:-$OMP_NUM_THREADS}"
}

# ---------------------------------------------------------------- tests

passed=0
failed=0
summary=()

record() { # NAME STATUS SECONDS [TEXT]
  local word=ok
  (($2 == 0)) || word=FAILED
  summary+=("$(printf '%-12s %-6s %5d s  %s' "$1" "$word" "$3" "${4:-}")")
}

check() { # NAME COMMAND...: one pass or one failure
  local name="$1" status=0 start=$SECONDS
  shift
  echo "== $name"
  "$@" </dev/null || status=$?
  if ((status == 0)); then passed=$((passed + 1)); else failed=$((failed + 1)); fi
  record "$name" "$status" $((SECONDS - start))
}

count() { grep -oE "[0-9]+ $1" <<<"$2" | grep -oE '[0-9]+' || echo 0; }

pytest_part() { # NAME PYTEST-ARGS...: as many passes and failures as pytest counts
  local name="$1" status=0 start=$SECONDS log line bad
  shift
  echo "== $name"
  log="$(mktemp)"
  "$PYTHON" -m pytest --color=no "$@" </dev/null 2>&1 | tee "$log" || status=${PIPESTATUS[0]}
  line="$(grep -E '^(=+ )?([0-9]+ (passed|failed|errors?|skipped|deselected|xfailed|xpassed|warnings?)(, )?)+.* in [0-9.]+s' "$log" | tail -n 1 || true)"
  rm -f "$log"
  bad=$(($(count failed "$line") + $(count 'errors?' "$line")))
  ((status == 0 || bad > 0)) || bad=1 # it died before it could count
  passed=$((passed + $(count passed "$line")))
  failed=$((failed + bad))
  record "$name" "$status" $((SECONDS - start)) "$(sed -E 's/^=+ | =+$//g' <<<"${line:-no summary, exit status $status}")"
}

run_tests() {
  cd "$ROOT"
  check lint "$VENV/bin/ruff" check .
  check format "$VENV/bin/ruff" format --check .
  check types "$VENV/bin/basedpyright" --pythonpath "$PYTHON"
  if (($#)); then
    pytest_part tests "$@"
  else
    # One thread a worker: two workers fill the two cores that a CI machine has.
    OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 pytest_part tests -q -n 2 --dist loadfile -m 'not sim'
    pytest_part 'sim tests' -q -m sim
  fi
  echo
  printf '%s\n' "${summary[@]}"
  echo "$passed passed, $failed failed"
  ((failed == 0))
}

case "${1:-}" in
  -p | --python)
    shift
    ensure
    exec "$PYTHON" "$@"
    ;;
  -t | --test)
    shift
    ensure
    run_tests "$@"
    ;;
  -i | --install)
    ensure
    say "the environment in $VENV is ready"
    ;;
  -h | --help)
    usage
    ;;
  *)
    usage >&2
    exit 2
    ;;
esac
