"""Ending where there is nobody left to be told to stop: without Ray, and leaving nothing behind."""

from __future__ import annotations

import ctypes
import os
import sys
from contextlib import suppress
from typing import Final, NoReturn

import psutil

from orchx.cli.failures import exit_code_of, report

PR_SET_CHILD_SUBREAPER: Final = 36
GONE_TIMEOUT_S: Final = 10.0
_ROUNDS: Final = 3  # what is being killed may be starting something


def adopt_orphans() -> None:
    """Become the parent of what a child of this process leaves behind when it ends (Linux).

    Otherwise those would be lost to sight whom a killed raylet has started.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)


def end_abruptly(error: Exception, *, as_json: bool) -> NoReturn:
    """Kill everything that this process has started, say why, and end it.

    Without its GCS, Ray needs half a minute to disconnect, and does so again when Python ends.
    """
    for _ in range(_ROUNDS):
        if not (started := psutil.Process().children(recursive=True)):
            break
        for process in started:
            with suppress(psutil.Error):  # gone, or not ours to kill: the end comes all the same
                process.kill()
        psutil.wait_procs(started, timeout=GONE_TIMEOUT_S)
    try:
        report(error, as_json=as_json)
        sys.stdout.flush()
        sys.stderr.flush()
    finally:  # whoever read what it says may have gone
        os._exit(exit_code_of(error))
