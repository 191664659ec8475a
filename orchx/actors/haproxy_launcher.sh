#!/bin/sh
# Stands where Ray Serve expects HAProxy's binary; see haproxy_launcher.py.
exec "$ORCHX_LAUNCHER_PYTHON" -IS "$(dirname "$0")/haproxy_launcher.py" "$@"
