"""IT: accounts, mailboxes, access, groups, and a few hand-made laptops."""

from __future__ import annotations

import datetime
import unicodedata
from typing import Annotated, Final

from msgspec import Meta
from msgspec.structs import replace

from orchx.sandbox.operations import Call, Input, NoInput, Operation, Output, Service
from orchx.sandbox.problems import Problem
from orchx.sandbox.services.fields import Identifier, Name, Text
from orchx.sandbox.services.incidents import INCIDENT_OPERATIONS
from orchx.sandbox.services.laptops import provisioning


class NewAccount(Input, frozen=True, kw_only=True):
    """A directory account for an employee."""

    employee_id: Identifier
    first_name: Name
    last_name: Name
    department: Name | None = None


class Account(Output, frozen=True, kw_only=True):
    """A directory account."""

    account_id: str
    employee_id: str
    username: str


class NewMailbox(Input, frozen=True, kw_only=True):
    """A mailbox for an account."""

    employee_id: Identifier
    username: Identifier
    size_gb: Annotated[int, Meta(ge=1, le=500)] = 50


class Mailbox(Output, frozen=True, kw_only=True):
    """A mailbox."""

    mailbox_id: str
    address: str
    size_gb: int


class NewAccessGrant(Input, frozen=True, kw_only=True):
    """Access of an employee to a resource, for good or until a moment."""

    employee_id: Identifier
    resource: Identifier
    role: Identifier = "reader"
    expires_at: datetime.datetime | None = None
    approved_by: Text | None = None


class AccessGrant(Output, frozen=True, kw_only=True):
    """Access that was granted."""

    grant_id: str
    employee_id: str
    resource: str
    role: str
    status: str


class RevocationReason(Input, frozen=True, kw_only=True):
    """Why access is taken away."""

    reason: Text = "expired"


class NewGroupMember(Input, frozen=True, kw_only=True):
    """Who joins a group."""

    employee_id: Identifier


class GroupMember(Output, frozen=True, kw_only=True):
    """Somebody in a group."""

    membership_id: str
    group: str
    employee_id: str


def _ascii(name: str) -> str:
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    return "".join(letter for letter in plain if letter.isalnum()) or "x"


def _create_account(request: NewAccount, call: Call) -> Account:
    return Account(
        account_id=call.new_id("ACC"),
        employee_id=request.employee_id,
        username=f"{_ascii(request.first_name)}.{_ascii(request.last_name)}"[:64],
    )


def _create_mailbox(request: NewMailbox, call: Call) -> Mailbox:
    return Mailbox(
        mailbox_id=call.new_id("MBX"),
        address=f"{request.username}@example.com",
        size_gb=request.size_gb,
    )


def _grant_access(request: NewAccessGrant, call: Call) -> AccessGrant:
    grant = AccessGrant(
        grant_id=call.new_id("GRT"),
        employee_id=request.employee_id,
        resource=request.resource,
        role=request.role,
        status="active",
    )
    call.records.put(grant.grant_id, grant)
    return grant


def _known(call: Call) -> AccessGrant:
    grant_id = call.path["grant_id"]
    grant = call.records.find(AccessGrant, grant_id)
    if grant is None:
        raise Problem(404, "unknown-grant", f"There is no grant {grant_id}.")
    return grant


def _revoke_access(_: RevocationReason, call: Call) -> AccessGrant:
    revoked = replace(_known(call), status="revoked")
    call.records.put(revoked.grant_id, revoked)
    return revoked


def _get_access(_: NoInput, call: Call) -> AccessGrant:
    return _known(call)


def _add_group_member(request: NewGroupMember, call: Call) -> GroupMember:
    return GroupMember(
        membership_id=call.new_id("MEM"),
        group=call.path["group"],
        employee_id=request.employee_id,
    )


IT: Final = Service(
    name="it",
    title="IT",
    operations=(
        Operation(
            operation_id="createAccount",
            capability="it.create-account",
            method="POST",
            path="/accounts",
            summary="Create a directory account",
            input=NewAccount,
            output=Account,
            handle=_create_account,
            subject=lambda request, _: str(request.employee_id),
        ),
        Operation(
            operation_id="createMailbox",
            capability="it.create-mailbox",
            method="POST",
            path="/mailboxes",
            summary="Create a mailbox",
            input=NewMailbox,
            output=Mailbox,
            handle=_create_mailbox,
            subject=lambda request, _: str(request.username),
        ),
        provisioning("/laptops", provider="it", tag="IT", eta_days=10, surcharge=0.9),
        Operation(
            operation_id="grantAccess",
            capability="it.grant-access",
            method="POST",
            path="/access-grants",
            summary="Grant access to a resource",
            input=NewAccessGrant,
            output=AccessGrant,
            handle=_grant_access,
            subject=lambda request, _: f"{request.employee_id}/{request.resource}/{request.role}",
        ),
        Operation(
            operation_id="getAccess",
            capability="it.get-access",
            method="GET",
            path="/access-grants/{grant_id}",
            summary="Read an access grant",
            output=AccessGrant,
            handle=_get_access,
            status=200,
        ),
        Operation(
            operation_id="revokeAccess",
            capability="it.revoke-access",
            method="DELETE",
            path="/access-grants/{grant_id}",
            summary="Take access away",
            input=RevocationReason,
            output=AccessGrant,
            handle=_revoke_access,
            subject=lambda _, call: str(call.path["grant_id"]),
            status=200,
        ),
        Operation(
            operation_id="addGroupMember",
            capability="it.add-group-member",
            method="POST",
            path="/groups/{group}/members",
            summary="Add somebody to a group",
            input=NewGroupMember,
            output=GroupMember,
            handle=_add_group_member,
            subject=lambda request, call: f"{request.employee_id}/{call.path['group']}",
        ),
        *INCIDENT_OPERATIONS,
    ),
)
