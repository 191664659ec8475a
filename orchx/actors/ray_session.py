"""Where Ray keeps what belongs to its present session."""

from __future__ import annotations

from pathlib import Path

import ray


def logs_folder() -> Path:
    """Return the folder into which this machine's processes write.

    The log lines of an actor are in its `worker-….err`, whose name ends with the process id.
    Only for a process that is connected to Ray.
    """
    context = ray.get_runtime_context()
    return Path(context.get_temp_dir()) / context.get_session_name() / "logs"
