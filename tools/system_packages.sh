#!/usr/bin/env bash
# Installs system packages by apt-get, only where their commands are missing, and says so.
# Usage: tools/system_packages.sh NAME...
#   NAME is a command and the package of the same name, or COMMAND:PACKAGE where they differ.
# Exits 0 when every command is there, 1 when one is still missing: the caller may do without.
set -euo pipefail

say() { printf 'system packages: %s\n' "$*" >&2; }

missing=()
for name in "$@"; do
    command -v "${name%%:*}" >/dev/null || missing+=("${name##*:}")
done
[ ${#missing[@]} -eq 0 ] && exit 0

as_root=()
if [ "$(id -u)" -ne 0 ]; then
    if sudo -n true 2>/dev/null; then
        as_root=(sudo -n)
    else
        say "missing: ${missing[*]}. Not root, and sudo asks for a password;" \
            "install with: sudo apt-get install ${missing[*]}"
        exit 1
    fi
fi
if ! command -v apt-get >/dev/null; then
    say "missing: ${missing[*]}. There is no apt-get here; install by this system's own means"
    exit 1
fi

install() {
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
        apt-get install -y -qq --no-install-recommends "${missing[@]}" </dev/null >/dev/null
}

say "installing ${missing[*]} by apt-get"
# The package lists may be absent or stale: refresh them only when a first try fails.
if ! install 2>/dev/null; then
    { "${as_root[@]}" apt-get update -qq </dev/null >/dev/null && install; } || {
        say "apt-get could not install: ${missing[*]}"
        exit 1
    }
fi

for name in "$@"; do
    command -v "${name%%:*}" >/dev/null || { say "installed, yet no command: ${name%%:*}"; exit 1; }
done
