"""A command group that imports a command's module only when that command is run."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import typer
from typer.core import TyperCommand, TyperGroup

from orchx.cli.failures import handled


@dataclass(frozen=True, slots=True, kw_only=True)
class LazyCommand:
    """Where a command is (`module` holds a `typer.Typer` called `app`) and what it does."""

    module: str
    summary: str
    panel: str


class LazyGroup(TyperGroup):
    """A group made from a table of `LazyCommand`s; `--help` needs the table alone.

    It is also the edge at which errors become messages and exit codes.
    """

    table: ClassVar[Mapping[str, LazyCommand]] = {}

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the names in the order of the table."""
        return list(self.table)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Return a command; while help is shown, no more of it than its summary."""
        entry = self.table.get(cmd_name)
        if entry is None:
            return None
        if ctx.meta.get(_LISTING):
            return TyperCommand(cmd_name, help=entry.summary, rich_help_panel=entry.panel)
        command = typer.main.get_command(importlib.import_module(entry.module).app)
        command.name = cmd_name
        return command

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Show the help from the table."""
        ctx.meta[_LISTING] = True
        try:
            super().format_help(ctx, formatter)
        finally:
            ctx.meta.pop(_LISTING)

    def invoke(self, ctx: Any) -> Any:
        """Run the command; what it raises is told to the user, and ends with an exit code."""
        with handled(ctx):
            return super().invoke(ctx)


_LISTING = "orchx.listing"
