#!/usr/bin/env bash
# Starts this machine as a node of the Ray cluster: `start.sh head`, or `start.sh worker`, which
# finds the head's address in RAY_HEAD_IP. The launcher (../*.yaml) calls it over SSH; so may
# systemd. It begins anew what may run already.
set -euo pipefail

role=$1
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
bin=$HOME/.orchx/bin

# Passwords are in the one, and whoever reads the other may run anything on the cluster.
chmod 600 "$here/orchx.env" "${RAY_AUTH_TOKEN_PATH:-$HOME/.ray/auth_token}"
set -a
. "$here/orchx.env"
set +a
# What Ray's processes find in their environment is what it is now.
eval "$("$bin/orchx" node-env)"
export PATH="$bin:$PATH"
ulimit -n 65536 2>/dev/null || true # Ray opens many files; where this is not allowed it says so
ulimit -c 0

ray stop >/dev/null 2>&1 || true # there may be none

# A launcher for a cloud overrides these by the type of the node; on premises they are in a file.
labels=$HOME/orchx-labels
if [ "$role" = head ]; then
    ray start --head --port=6379 --include-dashboard=false --disable-usage-stats \
        --labels=orchx-tier=head --autoscaling-config="$HOME/ray_bootstrap_config.yaml"
    # Detached: it goes on when this shell has ended. It waits for the nodes that it needs.
    cd "$here"
    RAY_ADDRESS=auto exec orchx up --detach
fi
exec ray start --address="$RAY_HEAD_IP:6379" --disable-usage-stats \
    --labels="$(cat "$labels" 2>/dev/null || echo orchx-tier=stable)"
