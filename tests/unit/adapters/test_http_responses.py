"""What a response's body becomes, and which bodies are refused."""

from __future__ import annotations

import pytest

from orchx.adapters.http_responses import decode
from orchx.domain.faults import COMMUNICATION, WorkflowFault


@pytest.mark.parametrize(
    ("body", "title"),
    [
        (b'{"id": 99999999999999999999}', "integer out of range"),
        (b"[18446744073709551616]", "integer out of range"),
        (b"[[-9223372036854775809]]", "integer out of range"),
        (b"[" + b"9" * 5_000 + b"]", "malformed JSON"),
        (b"[1e400]", "malformed JSON"),
        (b"[NaN]", "malformed JSON"),
        (b"[-Infinity]", "malformed JSON"),
        (b"[" + b"1," * 100_000 + b"1]", "value too large"),
    ],
    ids=["wide", "unsigned", "signed", "endless", "double", "nan", "infinity", "many"],
)
def test_json_that_no_message_can_carry(body: bytes, title: str) -> None:
    with pytest.raises(WorkflowFault) as caught:
        decode(body, "application/json")

    fault = caught.value.fault
    assert (fault.type, fault.status, fault.title) == (COMMUNICATION, 502, title)


def test_the_widest_integers() -> None:
    body = b"[-9223372036854775808, 18446744073709551615]"

    assert decode(body, "application/json") == [-(2**63), 2**64 - 1]
