"""The process that `SandboxEvaluator` runs: one jq program after the other, under rlimits.

Started as a script by `python -I -S`, so that it is up in some 30 ms: it imports nothing
of orchx. Frames, all lengths 4 bytes big endian:
request = length, program, length, input; reply = one status byte, length, payload.
`argv`: directory of the jq package, memory bytes, output bytes, CPU seconds.
"""

from __future__ import annotations

import os
import resource
import struct
import sys
from typing import Final

VALUE: Final = b"v"  # payload: the first output as JSON
NOTHING: Final = b"n"  # no output
FAILED: Final = b"f"  # payload: jq's message
TOO_LARGE: Final = b"l"  # the output is over its limit
NO_MEMORY: Final = b"m"
READY: Final = b"r"  # sent once, after the imports

MAX_PROGRAMS: Final = 128  # compiled ones kept
MAX_MESSAGE_BYTES: Final = 4_096
STDIN: Final = 0
STDOUT: Final = 1


def main() -> None:
    """Answer requests until the parent closes the pipe."""
    jq_path, memory_bytes, output_bytes, cpu_s = sys.argv[1], *map(int, sys.argv[2:5])
    sys.path.append(jq_path)
    import jq

    jq.compile(".").input_text("null").first()  # loads what jq loads late
    _limit(resource.RLIMIT_AS, memory_bytes)
    _limit(resource.RLIMIT_CORE, 0)
    _limit(resource.RLIMIT_FSIZE, 0)
    _limit(resource.RLIMIT_NOFILE, 3)  # nothing more can be opened
    programs: dict[str, object] = {}
    _write(READY, b"")
    while True:
        program, text = _read_frame(), _read_frame()
        if program is None or text is None:
            return
        _renew_cpu(cpu_s)
        try:
            status, payload = _run(jq, programs, program.decode(), text.decode())
        except MemoryError:
            programs.clear()
            status, payload = NO_MEMORY, b""
        if status == VALUE and len(payload) > output_bytes:
            status, payload = TOO_LARGE, b""
        _write(status, payload)


def _run(jq: object, programs: dict[str, object], program: str, text: str) -> tuple[bytes, bytes]:
    compiled = programs.get(program)
    try:
        if compiled is None:
            if len(programs) >= MAX_PROGRAMS:
                programs.pop(next(iter(programs)))
            compiled = programs[program] = jq.compile(program)  # type: ignore[attr-defined]
        output = next(iter(compiled.input_text(text)), None)  # type: ignore[attr-defined]
    except ValueError as error:
        return FAILED, str(error).encode(errors="replace")[:MAX_MESSAGE_BYTES]
    return (NOTHING, b"") if output is None else (VALUE, output.encode())


def _limit(what: int, value: int) -> None:
    resource.setrlimit(what, (value, value))


def _renew_cpu(budget_s: int) -> None:
    """Allow so much CPU time from now on; beyond it the kernel ends this process."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    spent_s = usage.ru_utime + usage.ru_stime
    resource.setrlimit(resource.RLIMIT_CPU, (int(spent_s) + 1 + budget_s, resource.RLIM_INFINITY))


def _read_frame() -> bytes | None:
    header = _read(4)
    return None if header is None else _read(struct.unpack(">I", header)[0])


def _read(size: int) -> bytes | None:
    got = bytearray()
    while len(got) < size:
        piece = os.read(STDIN, min(size - len(got), 1 << 20))
        if not piece:
            return None
        got += piece
    return bytes(got)


def _write(status: bytes, payload: bytes) -> None:
    left = memoryview(status + struct.pack(">I", len(payload)) + payload)
    while left:
        left = left[os.write(STDOUT, left) :]


if __name__ == "__main__":
    main()
