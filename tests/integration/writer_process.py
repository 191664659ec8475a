"""A process of its own that writes to an event log, for the fault tests to kill.

Usage: python writer_process.py LOG append WRITER    appends for ever, prints each durable `seq`
       python writer_process.py LOG claim WRITER N   claims N new workflows, prints who won
"""

from __future__ import annotations

import asyncio
import sys
from itertools import count
from pathlib import Path

from orchx.adapters.sqlite_event_log import SqliteEventLog
from orchx.domain.events import Record, TaskSkipped
from orchx.ports.event_log import Claim

APPENDERS = 8


async def append(log: SqliteEventLog, writer: str) -> None:
    numbers = count(1)

    async def one() -> None:
        for seq in numbers:
            event = TaskSkipped(parent=0, reference=f"/do/{seq}")
            records = [
                Record(workflow_id=writer, epoch=1, owner=writer, seq=seq, at_ms=part, event=event)
                for part in (1, 2, 3)
            ]
            await log.append(records)
            print(seq, flush=True)

    await asyncio.gather(*(one() for _ in range(APPENDERS)))


async def claim(log: SqliteEventLog, writer: str, total: int) -> None:
    event = TaskSkipped(parent=0, reference=writer)
    # Both processes stand ready before either begins.
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    claims = [
        Claim(workflow_id=f"w{number}", owner=writer, at_ms=1, opening=(event,))
        for number in range(total)
    ]
    for claimed in await asyncio.gather(*map(log.claim, claims)):
        print(claimed.history[0].workflow_id, claimed.epoch, int(claimed.opened), flush=True)


async def main() -> None:
    log = SqliteEventLog(Path(sys.argv[1]))
    if sys.argv[2] == "append":
        await append(log, sys.argv[3])
    else:
        await claim(log, sys.argv[3], int(sys.argv[4]))
    await log.close()


if __name__ == "__main__":
    asyncio.run(main())
