"""The make-believe services of the enterprise, one module per system."""

from __future__ import annotations

from typing import Final

from orchx.sandbox.operations import Service
from orchx.sandbox.services.finance import FINANCE
from orchx.sandbox.services.hr import HR
from orchx.sandbox.services.it import IT
from orchx.sandbox.services.laptops import LAPTOPS_BASIC, LAPTOPS_EXPRESS
from orchx.sandbox.services.mail import MAIL

SERVICES: Final[tuple[Service, ...]] = (HR, FINANCE, IT, LAPTOPS_EXPRESS, LAPTOPS_BASIC, MAIL)
