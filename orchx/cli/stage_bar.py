"""A bar for work in stages, on stderr, where a person looks on."""

from __future__ import annotations

from types import TracebackType
from typing import Final

from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from orchx.cli.screen import errors_console
from orchx.engine import reprojection

REFRESHED_PER_S: Final = 4


class StageBar:
    """One line for each stage; nothing where stderr is no terminal."""

    def __init__(self, *, shown: bool) -> None:
        """`shown`: whether anybody wants it."""
        screen = errors_console()
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[count]}"),
            TimeElapsedColumn(),
            console=screen,
            refresh_per_second=REFRESHED_PER_S,
            disable=not (shown and screen.is_terminal),
        )
        self._stages: dict[str, TaskID] = {}

    def tell(self, progress: reprojection.Progress) -> None:
        """Show how far a stage is."""
        total = progress.total or None
        share = f"{100 * progress.done // total} %" if total else f"{progress.done:,}"
        stage = self._stages.get(progress.stage)
        if stage is None:
            stage = self._progress.add_task(progress.stage, total=total, count=share)
            self._stages[progress.stage] = stage
        self._progress.update(stage, completed=progress.done, total=total, count=share)

    def __enter__(self) -> StageBar:
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._progress.stop()
