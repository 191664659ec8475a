"""A server that is any program: it is ready as soon as its `ready` file is there."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from tools.services.server import Launch, UnobtainableError

STAYS = ("/bin/sh", "-c", 'touch "$0/ready"; exec tail -f /dev/null')


@dataclass(kw_only=True, eq=False)
class FakeServer:
    """See `tools.services.server.Server`. `{folder}/ready` is what it says when it answers."""

    name: str = "redis"
    port: int = 1
    script: tuple[str, ...] = STAYS
    unobtainable: str = ""
    prepared: list[Path] = field(default_factory=list)

    @property
    def variable(self) -> str:
        return f"ORCHX_TEST_{self.name.upper()}"

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def prepare(self, folder: Path) -> Launch:
        self.prepared.append(folder)
        if self.unobtainable:
            raise UnobtainableError(self.unobtainable)
        return Launch(description=f"Fake {self.name}", command=(*self.script, str(folder)))

    def is_ready(self) -> bool:
        return (self.prepared[-1] / "ready").exists() if self.prepared else True
