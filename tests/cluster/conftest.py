"""The sandbox's services, as the end-to-end tests have them."""

from __future__ import annotations

from tests.e2e.conftest import ledger, sandbox, services_file

__all__ = ["ledger", "sandbox", "services_file"]
