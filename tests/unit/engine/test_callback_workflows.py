"""Whose records are reported, found again in the log."""

from __future__ import annotations

from orchx.domain.events import Callback
from orchx.engine.callback_workflows import CallbackWorkflows
from tests.unit.engine.histories import CALLBACK_URL, simple_run
from tests.unit.engine.short_pages import ShortPages


async def test_a_workflow_is_found_again_from_pages_that_end_early() -> None:
    log = ShortPages()
    await log.append(simple_run("wf", callback=Callback(url=CALLBACK_URL), tasks=3))
    last = (await log.read("wf"))[-1]
    callee = await CallbackWorkflows(log).callee(last)
    assert callee is not None
    assert (callee.url, callee.lineage.seq) == (CALLBACK_URL, last.seq - 1)
    assert callee.reports(last)
