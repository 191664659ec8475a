#!/usr/bin/env bash
# Installs orchx on a node, once, from the wheel and the pinned versions that were copied here:
#   pip wheel --no-deps -w cluster/node . && cp constraints.txt cluster/node
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
venv=$HOME/.orchx

if [ ! -x "$venv/bin/orchx" ]; then
    python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet -c "$here/constraints.txt" "$here"/orchx-*.whl
    # Each Ray worker is a new process: with its bytecode ready it starts in half the time. A few
    # packages ship files for other versions of Python, which do not compile and are not imported.
    "$venv/bin/python" -m compileall -qq -j 0 "$venv/lib" >/dev/null 2>&1 || true
fi

# `ray down`, `ray exec` and the like find Ray where a shell looks for it.
path='export PATH="$HOME/.orchx/bin:$PATH"'
grep -qxF "$path" "$HOME/.bashrc" 2>/dev/null || echo "$path" >>"$HOME/.bashrc"
