"""Reads files that list services: the same shape as `PUT /v1/services`, in YAML or JSON."""

from __future__ import annotations

import msgspec

from orchx.adapters.yaml_source import load_yaml
from orchx.domain.json_values import JSON
from orchx.domain.services import Operation, Service
from orchx.errors import InvalidRequest, Violation

_FILE = ("services",)
_SERVICE = tuple(field.encode_name for field in msgspec.structs.fields(Service))
_OPERATION = tuple(field.encode_name for field in msgspec.structs.fields(Operation))


class _File(msgspec.Struct, frozen=True):
    services: list[Service]


def read_services(text: str) -> list[Service]:
    """Return the services that a file lists.

    Raises:
        InvalidRequest: the text is not YAML or JSON, or not a list of services; the
            violations name what is wrong and where.
    """
    source = load_yaml(text)
    violations = list(_unknown_keys(source.value))
    if violations:
        raise InvalidRequest("the file of services has unknown members", tuple(violations))
    try:
        return msgspec.convert(source.value, _File).services
    except msgspec.ValidationError as error:
        message, _, path = str(error).partition(" - at `$")
        pointer = path.rstrip("`").replace("[", "/").replace("]", "").replace(".", "/")
        violation = Violation(pointer=pointer, message=message, line=source.lines.get(pointer))
        raise InvalidRequest("the file does not list services", (violation,)) from error


def _unknown_keys(value: JSON) -> list[Violation]:
    found = _strangers(value, "", _FILE)
    services = value.get("services") if isinstance(value, dict) else None
    for number, service in enumerate(services if isinstance(services, list) else ()):
        pointer = f"/services/{number}"
        found += _strangers(service, pointer, _SERVICE)
        operations = service.get("operations") if isinstance(service, dict) else None
        for index, operation in enumerate(operations if isinstance(operations, list) else ()):
            found += _strangers(operation, f"{pointer}/operations/{index}", _OPERATION)
    return found


def _strangers(value: JSON, pointer: str, known: tuple[str, ...]) -> list[Violation]:
    if not isinstance(value, dict):
        return []
    expected = "one of " + ", ".join(known)
    return [
        Violation(pointer=f"{pointer}/{key}", message="this is not known here", expected=expected)
        for key in value
        if key not in known
    ]
