"""Webhooks against a real receiver on this machine that behaves as receivers do."""

from __future__ import annotations

import asyncio
import base64
import hmac
import json
import socket
import stat
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.abc import AbstractResolver, ResolveResult
from pydantic import SecretStr
from standardwebhooks import Webhook

from orchx.adapters.address_guard import GuardedResolver
from orchx.adapters.sqlite_deliveries import SqliteDeliveries
from orchx.adapters.webhook_secret import FILE_NAME, tenant_secret, webhook_secret
from orchx.adapters.webhook_sender import HttpWebhookSender, check_callback_url
from orchx.domain import events as e
from orchx.engine.reporter import Reporter
from orchx.engine.webhook_sending import Answer
from orchx.errors import InvalidRequest
from orchx.ports.deliveries import Delivery
from orchx.settings import Settings, SweepSettings, WebhookSettings
from tests.unit.engine.fakes import FakeLog
from tests.unit.engine.histories import simple_run

SECRET = "whsec_" + base64.b64encode(b"s" * 32).decode()
Behaviour = Callable[[web.Request], Awaitable[web.StreamResponse]]


class WallClock:
    """Real time: the receivers here are real."""

    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000

    def ticks_ms(self) -> int:
        return time.monotonic_ns() // 1_000_000

    async def sleep(self, delay_s: float) -> None:
        await asyncio.sleep(delay_s)


async def ok(_: web.Request) -> web.StreamResponse:
    return web.Response(status=204)


class Receiver:
    """Verifies every signature, then does what `behaviours` say in turn; the last one stays."""

    def __init__(self, port: int = 0) -> None:
        self.port = port
        self.calls: list[dict[str, object]] = []
        self.headers: list[dict[str, str]] = []
        self.behaviours: list[Behaviour] = [ok]
        self.other_paths: list[str] = []
        self.release = asyncio.Event()
        self._arrived = asyncio.Condition()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook"

    async def handle(self, request: web.Request) -> web.StreamResponse:
        if request.path != "/hook":
            self.other_paths.append(request.path)
            return web.Response()
        body = await request.read()
        Webhook(tenant_secret(SECRET, "acme")).verify(body, dict(request.headers))
        self.calls.append(json.loads(body))
        self.headers.append({key.lower(): value for key, value in request.headers.items()})
        async with self._arrived:
            self._arrived.notify_all()
        behaviour = self.behaviours.pop(0) if len(self.behaviours) > 1 else self.behaviours[0]
        return await behaviour(request)

    async def got(self, count: int) -> None:
        async with self._arrived:
            await self._arrived.wait_for(lambda: len(self.calls) >= count)

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[Receiver]:
        app = web.Application()
        app.router.add_route("*", "/{tail:.*}", self.handle)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", self.port)
        await site.start()
        self.port = runner.addresses[0][1]
        try:
            yield self
        finally:
            self.release.set()
            await runner.cleanup()


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with Receiver().serving() as serving:
        yield serving


def settings(**webhooks: object) -> Settings:
    values: dict[str, object] = {
        "allowed_hosts": ("127.0.0.1",),
        "first_delay_ms": 5,
        "collect_interval_ms": 10,
        "timeout_ms": 5_000,
    }
    return Settings(
        webhooks=WebhookSettings.model_validate(values | webhooks),
        sweep=SweepSettings(interval_ms=20),
    )


class WatchedDeliveries(SqliteDeliveries):
    """Lets a test wait for what the reporter has stored."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._changed = asyncio.Condition()

    async def update(self, deliveries: Sequence[Delivery]) -> None:
        await super().update(deliveries)
        async with self._changed:
            self._changed.notify_all()

    async def until(self, condition: Callable[[Sequence[Delivery]], bool]) -> list[Delivery]:
        """Return all deliveries as soon as they fulfil the condition."""
        async with asyncio.timeout(30), self._changed:
            while not condition(rows := list(await self.list(limit=1000))):
                await self._changed.wait()
            return rows

    async def ended(self, count: int) -> list[Delivery]:
        """Return all deliveries once so many are no longer pending."""
        return await self.until(lambda rows: sum(row.status != "pending" for row in rows) >= count)


@asynccontextmanager
async def reporting(
    log: FakeLog, folder: Path, chosen: Settings
) -> AsyncIterator[WatchedDeliveries]:
    deliveries = WatchedDeliveries(folder / "deliveries.db")
    sender = HttpWebhookSender(chosen, SECRET)
    reporter = Reporter(log, deliveries, sender, WallClock(), chosen)
    loop = asyncio.create_task(reporter.run())
    try:
        yield deliveries
    finally:
        loop.cancel()
        await asyncio.gather(loop, return_exceptions=True)
        await sender.close()
        await deliveries.close()


def answering(status: int, **headers: str) -> Behaviour:
    async def behave(_: web.Request) -> web.StreamResponse:
        return web.Response(status=status, headers=headers)

    return behave


async def test_progress_arrives_signed_and_in_order(receiver: Receiver, tmp_path: Path) -> None:
    log = FakeLog()
    log.add(simple_run("w", callback=e.Callback(url=receiver.url, events="all")))
    async with reporting(log, tmp_path, settings()) as deliveries:
        rows = await deliveries.ended(12)
    assert receiver.calls == [json.loads(row.body) for row in rows]
    assert receiver.calls[0]["type"] == "io.serverlessworkflow.workflow.started.v1"
    assert receiver.calls[-1]["type"] == "io.serverlessworkflow.workflow.completed.v1"
    assert [headers["webhook-id"] for headers in receiver.headers] == [row.id for row in rows]
    assert receiver.headers[0]["content-type"].startswith("application/cloudevents+json")


async def test_a_failing_receiver_gets_the_same_id_again(
    receiver: Receiver, tmp_path: Path
) -> None:
    receiver.behaviours = [answering(503), answering(500), answering(404), ok]
    log = FakeLog()
    log.add(simple_run("w", callback=e.Callback(url=receiver.url)))
    async with reporting(log, tmp_path, settings()) as deliveries:
        (row,) = await deliveries.ended(1)
    assert (row.status, row.attempts) == ("delivered", 4)
    assert {headers["webhook-id"] for headers in receiver.headers} == {row.id}


async def test_a_hanging_receiver_is_cut_and_holds_up_no_other(
    receiver: Receiver, tmp_path: Path
) -> None:
    async def hang(_: web.Request) -> web.StreamResponse:
        await receiver.release.wait()
        return web.Response()

    receiver.behaviours = [hang, ok]
    log = FakeLog()
    log.add(simple_run("slow", callback=e.Callback(url=receiver.url)))
    log.add(simple_run("quick", callback=e.Callback(url=receiver.url)))
    async with reporting(log, tmp_path, settings(timeout_ms=300)) as deliveries:
        rows = {row.workflow_id: row for row in await deliveries.ended(2)}
    assert (rows["quick"].attempts, rows["slow"].attempts) in {(1, 2), (2, 1)}
    assert {row.status for row in rows.values()} == {"delivered"}


async def test_a_redirect_is_not_followed(receiver: Receiver, tmp_path: Path) -> None:
    receiver.behaviours = [answering(307, Location=f"http://127.0.0.1:{receiver.port}/inside"), ok]
    log = FakeLog()
    log.add(simple_run("w", callback=e.Callback(url=receiver.url)))
    async with reporting(log, tmp_path, settings()) as deliveries:
        (row,) = await deliveries.ended(1)
    assert (row.status, row.attempts) == ("delivered", 2)
    assert receiver.other_paths == []


async def test_gone_is_final_and_can_be_replayed(receiver: Receiver, tmp_path: Path) -> None:
    receiver.behaviours = [answering(410), ok]
    log = FakeLog()
    log.add(simple_run("w", callback=e.Callback(url=receiver.url)))
    async with reporting(log, tmp_path, settings()) as deliveries:
        (row,) = await deliveries.ended(1)
        assert (row.status, row.attempts) == ("undelivered", 1)
        assert await deliveries.replay([row.id], now_ms=WallClock().now_ms()) == 1
        (row,) = await deliveries.ended(1)
    assert row.status == "delivered"


async def test_down_and_back_and_nothing_is_lost(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        receiver = Receiver(probe.getsockname()[1])
    log = FakeLog()
    callback = e.Callback(url=receiver.url, events="all")
    for number in range(5):
        log.add(simple_run(f"w{number}", callback=callback))
    async with reporting(log, tmp_path, settings()) as deliveries:
        await deliveries.until(lambda rows: any(row.attempts >= 2 for row in rows))
    async with (
        receiver.serving(),
        reporting(log, tmp_path, settings()) as deliveries,  # restarted meanwhile
    ):
        rows = await deliveries.ended(60)
    assert {row.status for row in rows} == {"delivered"}
    for number in range(5):
        expected = [row.id for row in rows if row.workflow_id == f"w{number}"]
        got = [hook["webhook-id"] for hook in receiver.headers if hook["webhook-id"] in expected]
        assert got == expected


async def test_retry_after_is_honoured(receiver: Receiver, tmp_path: Path) -> None:
    receiver.behaviours = [answering(429, **{"Retry-After": "3600"})]
    log = FakeLog()
    log.add(simple_run("w", callback=e.Callback(url=receiver.url)))
    async with reporting(log, tmp_path, settings()) as deliveries:
        rows = await deliveries.until(lambda rows: any(row.attempts for row in rows))
    assert rows[0].next_attempt_at_ms > WallClock().now_ms() + 3_500_000
    assert len(receiver.calls) == 1


async def test_a_retry_after_that_is_no_time_stops_nothing(
    receiver: Receiver, tmp_path: Path
) -> None:
    poison = {"Retry-After": "Mon, 01 Jan 99999999999999999999 00:00:00 GMT"}
    receiver.behaviours = [answering(503, **poison), ok]
    log = FakeLog()
    log.add(simple_run("w", callback=e.Callback(url=receiver.url)))
    async with reporting(log, tmp_path, settings()) as deliveries:
        (row,) = await deliveries.ended(1)
    assert (row.status, row.attempts) == ("delivered", 2)


async def test_each_tenant_s_webhooks_are_signed_with_a_secret_of_its_own(
    receiver: Receiver,
) -> None:
    assert (await send(receiver.url, settings())).status == 204
    assert (await send(receiver.url, settings(), tenant="globex")).status == 500  # not acme's


async def test_a_flood_in_answer_is_cut(receiver: Receiver) -> None:
    written = 0

    async def flood(request: web.Request) -> web.StreamResponse:
        nonlocal written
        response = web.StreamResponse()
        await response.prepare(request)
        for _ in range(10_000):
            await response.write(b"x" * 65_536)
            written += 65_536
        return response

    receiver.behaviours = [flood]
    assert (await send(receiver.url, settings())).status == 200
    assert written < 100_000_000


async def send(url: str, chosen: Settings, *, tenant: str = "acme") -> Answer:
    sender = HttpWebhookSender(chosen, SECRET)
    delivery = Delivery(
        id="msg_1",
        workflow_id="w",
        tenant=tenant,
        position=1,
        url=url,
        event_type="t",
        body=b"{}",
        created_at_ms=0,
    )
    try:
        return await sender.send(delivery, at_ms=WallClock().now_ms())
    finally:
        await sender.close()


INSIDE = [
    "http://127.0.0.1:{port}/hook",
    "http://localhost:{port}/hook",
    "http://LOCALHOST.:{port}/hook",
    "http://127.0.0.1.:{port}/hook",
    "http://127.1:{port}/hook",
    "http://2130706433:{port}/hook",
    "http://0x7f000001:{port}/hook",
    "http://0177.0.0.1:{port}/hook",
    "http://0.0.0.0:{port}/hook",
    "http://[::1]:{port}/hook",
    "http://[::ffff:127.0.0.1]:{port}/hook",
    "http://[::ffff:7f00:1]:{port}/hook",
    "http://[64:ff9b::7f00:1]:{port}/hook",
    "http://[2002:7f00:1::]:{port}/hook",
    "http://[fe80::1%25lo]:{port}/hook",
    "http://①②⑦.⓪.⓪.①:{port}/hook",
    "http://example.com\\@127.0.0.1:{port}/hook",
    "http://169.254.169.254/latest/meta-data",
    "http://10.0.0.1/hook",
    "http://192.168.1.1/hook",
    "http://[fd00::1]/hook",
]


@pytest.mark.parametrize("pattern", INSIDE)
async def test_the_inside_is_not_called(receiver: Receiver, pattern: str) -> None:
    answer = await send(pattern.format(port=receiver.port), settings(allowed_hosts=()))
    assert answer.status is None
    assert receiver.calls == []
    assert receiver.other_paths == []


async def test_a_private_address_is_refused_for_good(receiver: Receiver) -> None:
    for host in ("127.0.0.1", "localhost"):
        url = f"http://{host}:{receiver.port}/hook"
        answer = await send(url, settings(allowed_hosts=()))
        assert answer.refused, answer


async def test_an_allowed_host_is_called_wherever_it_is(receiver: Receiver) -> None:
    for allowed in (f"localhost:{receiver.port}", "localhost"):
        url = f"http://localhost:{receiver.port}/hook"
        assert (await send(url, settings(allowed_hosts=(allowed,)))).status == 204
    answer = await send(
        f"http://localhost:{receiver.port}/hook", settings(allowed_hosts=("localhost:1",))
    )
    assert answer.refused


async def test_a_name_that_changes_its_address_gains_nothing(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """First a public address, then ours: every resolution is checked, and the result is used."""
    answers = ["192.0.0.9", "127.0.0.1"]

    class Rebinding(AbstractResolver):
        async def resolve(
            self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
        ) -> list[ResolveResult]:
            address = answers.pop(0) if len(answers) > 1 else answers[0]
            return [
                ResolveResult(
                    hostname=host, host=address, port=port, family=family, proto=0, flags=0
                )
            ]

        async def close(self) -> None:
            pass

    monkeypatch.setattr(
        "orchx.adapters.webhook_sender.GuardedResolver",
        lambda guard: GuardedResolver(guard, Rebinding()),
    )
    url = f"http://rebind.example.com:{receiver.port}/hook"
    chosen = settings(allowed_hosts=(), timeout_ms=200)
    for _ in range(2):
        assert (await send(url, chosen)).status is None
    assert answers == ["127.0.0.1"]
    assert receiver.calls == []


@pytest.mark.parametrize(
    "url",
    [
        "https://hooks.example.com/x?y=1",
        "http://example.com",
        "https://example.com:8443/",
        "https://xn--mller-kva.example/",
        "https://müller.example/",
        "https://8.8.8.8/",
        "https://[2606:4700::1111]/",
        "http://127.0.0.1:9/allowed",
    ],
)
def test_good_callback_urls(url: str) -> None:
    check_callback_url(url, settings())


@pytest.mark.parametrize(
    "url",
    [
        "",
        "example.com",
        "ftp://example.com/",
        "file:///etc/passwd",
        "javascript:alert(1)",
        "https://",
        "https:///path",
        "https://user:password@example.com/",
        "https://user@example.com/",
        "https://example.com:0/",
        "https://example.com:99999/",
        "https://example.com:port/",
        "https://exa mple.com/",
        "https://example.com/\r\nX-Header: 1",
        "https://-bad.example.com/",
        "https://bad..example.com/",
        "https://" + "a" * 64 + ".example.com/",
        "https://example.com/" + "x" * 3000,
        "https://[::1/",
        "https://[::1]/",
        "https://10.1.2.3/",
        "https://169.254.169.254/",
        "https://localhost/",
        "https://api.localhost/",
        "https://example.com\\@10.0.0.1/",
        "https://\udcff.example.com/",
    ],
)
def test_bad_callback_urls(url: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        check_callback_url(url, settings(), pointer="/requests/3/callback/url")
    assert caught.value.violations[0].pointer == "/requests/3/callback/url"
    assert "password" not in str(caught.value)


def test_the_secret_is_made_once_and_is_the_owner_s_alone(tmp_path: Path) -> None:
    chosen = Settings(data_dir=tmp_path / "new")
    secret = webhook_secret(chosen)
    assert webhook_secret(chosen) == secret
    Webhook(secret)
    path = tmp_path / "new" / FILE_NAME
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(path.parent.iterdir()) == [path]
    other = webhook_secret(Settings(data_dir=tmp_path / "other"))
    assert other != secret


async def test_processes_that_start_at_once_share_a_secret(tmp_path: Path) -> None:
    chosen = Settings(data_dir=tmp_path)
    made = await asyncio.gather(*(asyncio.to_thread(webhook_secret, chosen) for _ in range(16)))
    assert len(set(made)) == 1


@pytest.mark.parametrize("secret", ["", "secret", "whsec_", "whsec_!!", "whsec_c2hvcnQ="])
def test_a_bad_secret_is_refused_and_not_shown(secret: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        webhook_secret(Settings(webhooks=WebhookSettings(secret=SecretStr(secret))))
    assert len(secret) < 7 or secret not in str(caught.value)


def test_a_tenant_s_secret_is_derived_from_the_master() -> None:
    """As docs/http-api.md says: whoever has the master can compute it with any tool."""
    derived = hmac.digest(b"s" * 32, b"acme", "sha256")
    assert tenant_secret(SECRET, "acme") == "whsec_" + base64.b64encode(derived).decode()
    Webhook(tenant_secret(SECRET, "acme"))
    assert len({tenant_secret(SECRET, name) for name in ("acme", "globex", "", "ACME")}) == 4


def test_a_configured_secret_is_used(tmp_path: Path) -> None:
    chosen = Settings(data_dir=tmp_path, webhooks=WebhookSettings(secret=SecretStr(SECRET)))
    assert webhook_secret(chosen) == SECRET
    assert list(tmp_path.iterdir()) == []
