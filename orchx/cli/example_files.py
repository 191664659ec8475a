"""The examples of a clone, and the sandbox that does what they ask for."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import orchx
from orchx.cli.failures import UsageError
from orchx.sandbox.process import SandboxProcess
from orchx.settings import Settings

SANDBOX_ADDRESS: Final = "http://127.0.0.1:8610"  # as it stands in the examples
_FOLDER: Final = Path("examples")


def examples_folder() -> Path:
    """Return the folder of the examples: that of the clone, or of the working directory.

    Raises:
        UsageError: there is none.
    """
    beside = Path(orchx.__file__).parent.parent / _FOLDER
    for folder in (beside, _FOLDER):
        if (folder / "services.yaml").is_file():
            return folder
    raise UsageError("the examples are not there", "They come with a clone of orchx: work there.")


def copy_examples(to: Path, sandbox_url: str) -> None:
    """Copy definitions and services, with the sandbox's address in place of the usual one.

    Raises:
        UsageError: the examples are not there.
    """
    examples = examples_folder()
    (to / "definitions").mkdir(parents=True)
    for path in (*sorted((examples / "definitions").glob("*.yaml")), examples / "services.yaml"):
        text = path.read_text(encoding="utf-8").replace(SANDBOX_ADDRESS, sandbox_url)
        (to / path.relative_to(examples)).write_text(text, encoding="utf-8")


@contextmanager
def with_examples(settings: Settings, sandbox_port: int) -> Iterator[Settings]:
    """Run the sandbox; yield the settings with the examples added, whose services it is.

    Raises:
        UsageError: the examples are not there, or the sandbox does not start.
    """
    folder = examples_folder()
    try:
        sandbox = SandboxProcess(settings.data_dir / "sandbox", sandbox_port)
    except RuntimeError as error:
        hint = (
            "Does something else listen there? --sandbox-port takes another; with a --data-dir"
            " of its own, as the examples hold the address."
        )
        raise UsageError(f"the sandbox does not start at port {sandbox_port}", hint) from error
    with sandbox, tempfile.TemporaryDirectory(prefix="orchx-examples-") as scratch:
        if sandbox.url != SANDBOX_ADDRESS:
            folder = Path(scratch) / _FOLDER
            copy_examples(folder, sandbox.url)
        yield settings.model_copy(
            update={
                "definitions": (*settings.definitions, folder / "definitions"),
                "services": (*settings.services, folder / "services.yaml"),
            }
        )
