#!/usr/bin/env bash
# Makes the virtual environment with orchx and its pinned dependencies; safe to run again.
# Usage: tools/make_venv.sh DIRECTORY     (PYTHON=/path/to/python to choose the interpreter)
set -euo pipefail

venv=${1:?usage: make_venv.sh DIRECTORY}
cd "$(dirname "$0")/.."
started_s=$SECONDS

say() { printf 'setup: %s\n' "$*"; }
fail() { printf 'setup: %s\n' "$@" >&2; exit 1; }

is_new_enough() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }

find_python() {
    local candidate
    for candidate in ${PYTHON:-python3.11 python3}; do
        if is_new_enough "$candidate"; then command -v "$candidate"; return; fi
    done
    fail "no Python 3.11 or newer found (tried: ${PYTHON:-python3.11, python3})." \
        "Install one (Debian, Ubuntu: apt-get install python3.11 python3.11-venv)" \
        "or name it: make PYTHON=/path/to/python3.11 ..."
}

if [ ! -x "$venv/bin/python" ] || ! is_new_enough "$venv/bin/python" \
    || ! "$venv/bin/python" -m pip --version >/dev/null 2>&1; then
    python=$(find_python)
    "$python" -c 'import ensurepip, venv' 2>/dev/null || fail \
        "$python lacks the venv module." \
        "Debian, Ubuntu: apt-get install $("$python" -c \
            'import sys; print("python%d.%d-venv" % sys.version_info[:2])')"
    say "1/4 making $venv with $("$python" --version)"
    rm -rf "$venv"
    "$python" -m venv "$venv"
else
    say "1/4 using $venv with $("$venv/bin/python" --version)"
fi

pip() { "$venv/bin/python" -m pip --disable-pip-version-check --quiet "$@"; }

say "2/4 installing the build backend"
pip install --no-compile -c constraints.txt hatchling editables

say "3/4 installing orchx and its dependencies (about 100 packages, a minute or two)"
pip install --no-compile --no-build-isolation -c constraints.txt -e '.[dev]'

# Every Ray worker is a new process: with the bytecode ready it starts in half the time.
say "4/4 compiling bytecode"
site_packages=$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
# A few packages ship files for other Python versions, which do not compile and are not imported.
env -u PYTHONDONTWRITEBYTECODE "$venv/bin/python" -m compileall -qq -j 0 \
    "$site_packages" orchx >/dev/null 2>&1 || true

say "ready in $((SECONDS - started_s)) s"
