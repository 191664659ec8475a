"""Passes TCP connections on through Unix sockets, which network namespaces do not keep apart.

`python relay.py FROM TO ...`, in pairs: `127.0.0.1:PORT` or the path of a socket.
"""

from __future__ import annotations

import asyncio
import sys
from contextlib import suppress

CHUNK_BYTES = 65_536


async def _connect(to: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    if to.startswith("/"):
        return await asyncio.open_unix_connection(to)
    host, _, port = to.rpartition(":")
    return await asyncio.open_connection(host, int(port))


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        while chunk := await reader.read(CHUNK_BYTES):
            writer.write(chunk)
            await writer.drain()
    writer.close()


async def _serve(listen: str, to: str) -> None:
    async def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await _connect(to)
        except OSError:
            writer.close()
            return
        await asyncio.gather(_copy(reader, far_writer), _copy(far_reader, writer))

    if listen.startswith("/"):
        server = await asyncio.start_unix_server(accepted, listen)
    else:
        host, _, port = listen.rpartition(":")
        server = await asyncio.start_server(accepted, host, int(port))
    await server.serve_forever()


async def _main(arguments: list[str]) -> None:
    pairs = zip(arguments[::2], arguments[1::2], strict=True)
    await asyncio.gather(*(_serve(listen, to) for listen, to in pairs))


if __name__ == "__main__":
    asyncio.run(_main(sys.argv[1:]))
