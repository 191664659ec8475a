"""Field types that several services share."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

Text = Annotated[str, Meta(min_length=1, max_length=2_000)]
Name = Annotated[str, Meta(min_length=1, max_length=100)]
Identifier = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
Email = Annotated[str, Meta(pattern=r"^[^@\s]{1,64}@[^@\s]{1,190}$")]
AmountCents = Annotated[int, Meta(gt=0, le=1_000_000_000)]
Currency = Annotated[str, Meta(pattern=r"^[A-Z]{3}$")]
CostCentreCode = Annotated[str, Meta(pattern=r"^CC-[0-9]{3}$")]
