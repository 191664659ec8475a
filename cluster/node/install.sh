#!/usr/bin/env bash
# Installs orchx on a node from the wheel and the pinned versions that were copied here, unless
# it has just these; ~/.orchx is the installation that Ray is started from next.
#   pip wheel --no-deps -w cluster/node . && cp constraints.txt cluster/node
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
wheel=$(ls -t "$here"/orchx-*.whl | head -n 1) # those of earlier releases may be here still
digest=$(cat "$wheel" "$here/constraints.txt" | sha256sum | cut -c 1-16)
versions=$HOME/.orchx-versions
venv=$versions/$digest

if [ ! -x "$venv/bin/orchx" ]; then
    # What Ray runs from until it is started again stays.
    for old in "$versions"/*; do
        [ "$old" -ef "$HOME/.orchx" ] || rm -rf "$old"
    done
    mkdir -p "$versions"
    python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet -c "$here/constraints.txt" "$wheel"
    # Each Ray worker is a new process: with its bytecode ready it starts in half the time. A few
    # packages ship files for other versions of Python, which do not compile and are not imported.
    "$venv/bin/python" -m compileall -qq -j 0 "$venv/lib" >/dev/null 2>&1 || true
fi
ln -sfT "$venv" "$HOME/.orchx"

# `ray down`, `ray exec` and the like find Ray where a shell looks for it.
path='export PATH="$HOME/.orchx/bin:$PATH"'
grep -qxF "$path" "$HOME/.bashrc" 2>/dev/null || echo "$path" >>"$HOME/.bashrc"
