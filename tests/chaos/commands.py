"""Programs of the system that do something at once: ip, nft, mount, losetup."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence

TIMEOUT_S = 30.0


def output_of(command: Sequence[str], *, text: str | None = None) -> str:
    """Run a program to its end, with `text` as its input, and return what it printed.

    Raises:
        RuntimeError: it failed; the message has what it complained of.
        OSError, TimeoutExpired: it does not run, or not to its end.
    """
    done = subprocess.run(
        command, check=False, capture_output=True, text=True, input=text or "", timeout=TIMEOUT_S
    )
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip() or done.returncode}")
    return done.stdout
