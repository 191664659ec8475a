"""Current states in Redis.

What one writer puts without a gap is a generation; entries and the marker of their partition
name it, and an entry of any other counts for nothing. So a put that fails, a writer that is
replaced and a server that comes back with old data need nothing to be deleted. A partition's
keys are in one slot of a Cluster (the part in braces says which), so that one script sees all
of them at one moment, and a replica that takes over has no marker without the entries before it.

    {orchx:3}:upto       <generation>:<offset of the log>:<when, by the server's clock, in ms>
    {orchx:3}:wf:<id>    <generation>=<summary as JSON>   or, leased   <generation>?<lease>
"""

from __future__ import annotations

import asyncio
import re
import secrets
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

import msgspec

from orchx.adapters.redis_connection import Argument, RedisConnection, Script
from orchx.errors import Unavailable
from orchx.ports.state_cache import CacheView
from orchx.ports.state_store import TERMINAL, WorkflowSummary
from orchx.settings import RedisSettings

LEASE_MS: Final = 10_000
"""For so long a reader may fill in what it did not find."""

ENTRY_BYTES: Final = 262_144  # larger summaries are left to the store
SCRIPT_BYTES: Final = 4 * 1_048_576
SCRIPT_KEYS: Final = 500
UNLINKED_KEYS: Final = 500
BEGINNINGS: Final = 2

_NOW: Final = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
"""
# Keys: marker, entries. Arguments: lease, its milliseconds.
_GET: Final = Script(
    _NOW
    + """
local marker = redis.call('GET', KEYS[1])
local found = {now, marker}
if not marker then return found end
local generation = string.match(marker, '^[^:]*')
for i = 2, #KEYS do
  local entry = redis.call('GET', KEYS[i])
  if entry and string.sub(entry, 1, #generation) == generation then
    found[i + 1] = entry
  else
    redis.pcall('SET', KEYS[i], generation .. '?' .. ARGV[1], 'PX', ARGV[2])
    found[i + 1] = false
  end
end
return found
"""
)
# Keys: entries. Arguments: what a leased one holds; then for each, seconds to live and value.
_FILL: Final = Script("""
for i = 1, #KEYS do
  if redis.call('GET', KEYS[i]) == ARGV[1] then
    redis.pcall('SET', KEYS[i], ARGV[2 * i + 1], 'EX', ARGV[2 * i])
  end
end
""")
# Keys: marker, entries. Arguments: how the marker has to begin, its new value ('': none yet)
# and seconds to live; then for each entry, seconds to live and value ('': to be deleted).
_PUT: Final = Script(
    _NOW
    + """
if ARGV[1] ~= '' then
  local marker = redis.call('GET', KEYS[1])
  if not marker or string.sub(marker, 1, #ARGV[1]) ~= ARGV[1] then return false end
end
for i = 2, #KEYS do
  local value = ARGV[2 * i + 1]
  if value == '' then redis.call('UNLINK', KEYS[i])
  else redis.call('SET', KEYS[i], value, 'EX', ARGV[2 * i]) end
end
if ARGV[2] ~= '' then redis.call('SET', KEYS[1], ARGV[2], 'EX', ARGV[3]) end
return now
"""
)

MARKER: Final = re.compile(rb"([^:]+):(\d{1,19}):(\d{1,19})")

_Entry: TypeAlias = tuple[str, int, bytes]  # key, seconds to live, value

_encoder: Final = msgspec.json.Encoder()
_summary: Final = msgspec.json.Decoder(WorkflowSummary)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Writing:
    """A generation that this process writes, up to an offset; and the server's time once."""

    generation: str
    offset: int | None
    server_ms: int
    heard_s: float  # on our monotonic clock, when the server's time was heard

    def now_ms(self) -> int:
        """Return the server's time, or a little less: a script that runs late looks late."""
        return self.server_ms + int((time.monotonic() - self.heard_s) * 1000)


class RedisStateCache:
    """A `StateCache`."""

    def __init__(self, settings: RedisSettings, prefix: str) -> None:
        """Connect nowhere yet; all keys begin with `{` and the prefix."""
        self._connection = RedisConnection(settings)
        self._settings = settings
        self._prefix = prefix
        self._writing: dict[int, _Writing] = {}
        self._turns: defaultdict[int, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def get(self, workflow_ids: Sequence[str], *, partition: int) -> CacheView | None:
        """Look workflows up, and lease what is not there."""
        lease = secrets.token_hex(8)
        keys = [self._marker(partition), *(self._entry(partition, key) for key in workflow_ids)]
        now_ms, text, *entries = await self._connection.run(_GET, keys, (lease, LEASE_MS))
        marker = MARKER.fullmatch(text or b"")
        if marker is None:
            return None
        generation, offset, at_ms = marker[1].decode(), int(marker[2]), int(marker[3])
        if now_ms < at_ms:
            return None  # the server's clock was set back, so the age cannot be told
        found = {}
        for workflow_id, entry in zip(workflow_ids, entries, strict=True):
            summary = summary_in(entry, len(generation))
            if summary is not None:
                found[workflow_id] = summary
        lease = f"{generation}?{lease}"
        return CacheView(offset=offset, age_ms=now_ms - at_ms, found=found, lease=lease)

    async def fill(
        self, summaries: Sequence[WorkflowSummary], *, partition: int, lease: str
    ) -> None:
        """Keep what was read from the store, where the lease still stands."""
        generation = lease.partition("?")[0]
        for entries in _parts(self._entries(summaries, partition, generation)):
            kept = [entry for entry in entries if entry[2]]
            arguments: list[Argument] = [lease]
            for _, ttl_s, value in kept:
                arguments += (ttl_s, value)
            await self._connection.run(_FILL, [key for key, _, _ in kept], arguments)

    async def put(
        self, summaries: Sequence[WorkflowSummary], *, after: int, offset: int, partition: int
    ) -> None:
        """Keep what changed in a partition between two offsets."""
        async with self._turns[partition]:
            # Out of the table until it is known to be done: a failure ends the generation.
            writing = self._writing.pop(partition, None)
            if writing is not None and writing.offset != after:
                writing = None
            for _ in range(BEGINNINGS):
                if writing is None:
                    writing = await self._begin(partition)
                written = await self._write(summaries, offset, partition, writing)
                if written is not None:
                    self._writing[partition] = written
                    return
                writing = None  # the marker is lost, or another process wrote
            raise Unavailable(f"the cache of partition {partition} is written by another process")

    async def clear(self, partition: int | None = None) -> None:
        """Delete a partition's marker, or everything; whoever writes notices at the next put."""
        if partition is not None:
            await self._connection.unlink([self._marker(partition)])
            return
        pattern = pattern_of(self._prefix)
        slots: defaultdict[bytes, list[str | bytes]] = defaultdict(list)
        async for key in self._connection.keys(pattern):
            keys = slots[key.partition(b"}")[0]]
            keys.append(key)
            if len(keys) >= UNLINKED_KEYS:
                await self._connection.unlink(keys)
                keys.clear()
        for keys in slots.values():
            if keys:
                await self._connection.unlink(keys)

    async def close(self) -> None:
        """Close the client."""
        await self._connection.close()

    async def _begin(self, partition: int) -> _Writing:
        found = await self._connection.run(_GET, [self._marker(partition)], ("", LEASE_MS))
        return _Writing(
            generation=secrets.token_hex(8),
            offset=None,
            server_ms=found[0],
            heard_s=time.monotonic(),
        )

    async def _write(
        self, summaries: Sequence[WorkflowSummary], offset: int, partition: int, writing: _Writing
    ) -> _Writing | None:
        """Write entries, then the marker; None: the generation is not the marker's any more."""
        expected = "" if writing.offset is None else f"{writing.generation}:{writing.offset}:"
        parts = list(_parts(self._entries(summaries, partition, writing.generation))) or [[]]
        now_ms = writing.server_ms
        for number, entries in enumerate(parts, 1):
            last = number == len(parts)
            marker = f"{writing.generation}:{offset}:{writing.now_ms()}" if last else ""
            arguments: list[Argument] = [expected, marker, self._settings.live_ttl_s]
            for _, ttl_s, value in entries:
                arguments += (ttl_s, value)
            keys = [self._marker(partition), *(key for key, _, _ in entries)]
            now_ms = await self._connection.run(_PUT, keys, arguments)
            if now_ms is None:
                return None
        return _Writing(
            generation=writing.generation,
            offset=offset,
            server_ms=now_ms,
            heard_s=time.monotonic(),
        )

    def _entries(
        self, summaries: Sequence[WorkflowSummary], partition: int, generation: str
    ) -> Iterator[_Entry]:
        start = f"{generation}=".encode()
        for summary in summaries:
            ended = summary.status in TERMINAL
            ttl_s = self._settings.ended_ttl_s if ended else self._settings.live_ttl_s
            value = start + _encoder.encode(summary)
            if len(value) > ENTRY_BYTES:
                value = b""
            yield self._entry(partition, summary.workflow_id), ttl_s, value

    def _marker(self, partition: int) -> str:
        return marker_of(self._prefix, partition)

    def _entry(self, partition: int, workflow_id: str) -> str:
        return entry_of(self._prefix, partition, workflow_id)


def pattern_of(prefix: str) -> str:
    """Return the pattern of all keys with a prefix, whatever characters it has."""
    return "{" + re.sub(r"([*?\[\]\\^-])", r"\\\1", prefix) + ":*"


def marker_of(prefix: str, partition: int) -> str:
    """Return the key of a partition's marker."""
    return f"{{{prefix}:{partition}}}:upto"


def entry_of(prefix: str, partition: int, workflow_id: str) -> str:
    """Return the key of a workflow's entry."""
    return f"{{{prefix}:{partition}}}:wf:{workflow_id}"


def summary_in(entry: bytes | None, start: int) -> WorkflowSummary | None:
    """Return what an entry holds; None: nothing, or what another release wrote."""
    if entry is None or entry[start : start + 1] != b"=":
        return None
    try:
        return _summary.decode(memoryview(entry)[start + 1 :])
    except msgspec.MsgspecError:
        return None


def _parts(entries: Iterator[_Entry]) -> Iterator[list[_Entry]]:
    """Cut into parts that one script may hold."""
    part: list[_Entry] = []
    size = 0
    for entry in entries:
        if part and (len(part) == SCRIPT_KEYS or size + len(entry[2]) > SCRIPT_BYTES):
            yield part
            part, size = [], 0
        part.append(entry)
        size += len(entry[2])
    if part:
        yield part
