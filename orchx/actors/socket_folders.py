"""The folders of direct channels: one for each life of a Ray node, for this user alone."""

from __future__ import annotations

import hashlib
import os
import shutil
import socket
import stat
import tempfile
from pathlib import Path
from typing import Final

from orchx.errors import DriverError

MAX_FOLDER_BYTES: Final = 66  # a socket's path has at most 107: 32 for its name, 8 for a draft's
SHORT_FOLDER: Final = Path("/tmp")  # noqa: S108  for this user alone, like every folder of sockets
NODE_CHARS: Final = 8  # of a node's id, in the name of its folder


def socket_path(data_dir: Path, namespace: str, name: str, node: str = "") -> Path:
    """Return where an actor listens; makes the folder, for this user alone.

    It is a folder of the Ray node with the id `node`: what another node has left on this
    machine, or this one before it was started anew, is never taken for an actor of now.

    Raises:
        DriverError: the folder is somebody else's, or open to others.
        OSError: it cannot be made.
    """
    known_by = f"{data_dir.absolute()}\0{namespace}"
    digest = hashlib.sha256(known_by.encode()).hexdigest()[:16]
    # not in the data folder, whose path may be long
    life = f"-{node[:NODE_CHARS]}" if node else ""
    folder = Path(tempfile.gettempdir()) / f"orchx-{os.getuid()}-{digest}{life}"
    if len(os.fsencode(folder)) > MAX_FOLDER_BYTES:
        folder = SHORT_FOLDER / folder.name
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise DriverError(f"{folder} is not a folder of this user alone")
    return folder / name


def forget_dead_nodes(folder: Path) -> None:
    """Delete the folders of nodes beside this one, on this machine, in which nobody listens."""
    installation, _, node = folder.name.rpartition("-")
    if len(node) != NODE_CHARS:
        return
    for other in folder.parent.glob(f"{installation}-*"):
        if other != folder and len(other.name) == len(folder.name):
            sockets = [path for path in other.iterdir() if path.is_socket()]
            if sockets and not any(map(_is_heard, sockets)):  # a node that starts has none yet
                shutil.rmtree(other, ignore_errors=True)


def _is_heard(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        except OSError:  # it listens, and does not keep up
            return True
    return True
