"""Two suppliers of one capability, `it.provision-laptop`, and the same done by IT itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Literal

from orchx.sandbox.operations import Call, Input, Operation, Output, Service
from orchx.sandbox.services.fields import Identifier, Name

LaptopModel = Literal["standard", "developer", "executive"]
_PRICES_CENTS: Final[dict[LaptopModel, int]] = {
    "standard": 95_000,
    "developer": 210_000,
    "executive": 260_000,
}


class LaptopOrder(Input, frozen=True, kw_only=True):
    """A laptop for an employee."""

    employee_id: Identifier
    model: LaptopModel = "standard"
    ship_to: Name = "Lisbon"
    replaces_asset_tag: Identifier | None = None


class Laptop(Output, frozen=True, kw_only=True):
    """A laptop that is on its way."""

    order_id: str
    asset_tag: str
    provider: str
    model: LaptopModel
    eta_days: int
    price_cents: int


def _provision(
    provider: str, tag: str, eta_days: int, surcharge: float
) -> Callable[[LaptopOrder, Call], Laptop]:
    def handle(request: LaptopOrder, call: Call) -> Laptop:
        return Laptop(
            order_id=call.new_id("ORD"),
            asset_tag=call.new_id(tag),
            provider=provider,
            model=request.model,
            eta_days=eta_days,
            price_cents=round(_PRICES_CENTS[request.model] * surcharge),
        )

    return handle


def provisioning(
    path: str, *, provider: str, tag: str, eta_days: int, surcharge: float
) -> Operation:
    """Return the operation of one provider.

    Args:
        path: path template below the service's prefix.
        provider: the name in the answers.
        tag: prefix of its asset tags.
        eta_days: how long it takes.
        surcharge: its price as a multiple of the list price.
    """
    return Operation(
        operation_id="provisionLaptop",
        capability="it.provision-laptop",
        method="POST",
        path=path,
        summary="Provision a laptop for an employee",
        input=LaptopOrder,
        output=Laptop,
        handle=_provision(provider, tag, eta_days, surcharge),
        subject=lambda request, _: str(request.employee_id),
    )


LAPTOPS_EXPRESS: Final = Service(
    name="laptops-express",
    title="Laptops Express: quick and dear",
    operations=(
        provisioning(
            "/provision", provider="laptops-express", tag="LX", eta_days=1, surcharge=1.25
        ),
    ),
)
LAPTOPS_BASIC: Final = Service(
    name="laptops-basic",
    title="Laptops Basic: slow and cheap",
    operations=(
        provisioning("/orders", provider="laptops-basic", tag="LB", eta_days=5, surcharge=1.0),
    ),
)
