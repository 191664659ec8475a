#!/bin/sh
# Stands in for HAProxy's binary: one whose parent is killed must not keep the port.
exec setpriv --pdeathsig KILL "$HAPROXY_BINARY" "$@"
