from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from orchx.serve import deployment
from orchx.settings import HttpSettings, Settings


@pytest.mark.parametrize("asked", [0, 18_080])
def test_port_0_takes_a_free_one(monkeypatch: pytest.MonkeyPatch, asked: int) -> None:
    started: list[Any] = []

    class Deployment:
        def bind(self, settings: Settings) -> Settings:
            return settings

    fake = SimpleNamespace(
        start=lambda **options: started.append(options["http_options"]),
        deployment=lambda **_: lambda _cls: Deployment(),
        ingress=lambda: lambda cls: cls,
        run=lambda *_, **__: None,
    )
    monkeypatch.setattr(deployment, "serve", fake)
    settings = Settings(http=HttpSettings(host="127.0.0.1", port=asked))
    url = deployment.deploy(deployment.start_serve(settings))
    (options,) = started
    assert options.port > 0
    assert asked in (0, options.port)
    assert url == f"http://127.0.0.1:{options.port}"
