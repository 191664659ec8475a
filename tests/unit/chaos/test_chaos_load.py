"""What a crowd of clients keeps of the answers that turn it away."""

from __future__ import annotations

from typing import Any

import pytest

from tests.chaos.load import _reason_in


@pytest.mark.parametrize(
    ("told", "reason"),
    [
        (
            {"detail": "500 requests are being worked on here"},
            "# requests are being worked on here",
        ),
        ({"detail": "wf_a1b2 is claimed by owner-3"}, "# is claimed by owner-#"),
        ({"title": "no detail"}, "no reason"),
        (None, "no reason"),
        (["not", "an", "object"], "no reason"),
    ],
)
def test_reasons_are_told_without_what_differs_each_time(told: Any, reason: str) -> None:
    assert _reason_in(told) == reason
