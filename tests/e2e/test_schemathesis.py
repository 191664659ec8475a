from __future__ import annotations

import pytest

from tests.e2e.schemathesis_run import run_schemathesis


@pytest.mark.slow
def test_the_real_server_keeps_to_its_openapi_document(api_url: str, api_key: str) -> None:
    run_schemathesis(api_url, api_key, budget_s=60, seed=20260301)
