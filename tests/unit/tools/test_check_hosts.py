import subprocess
from pathlib import Path

import pytest

from tools.check_hosts import check_text, check_tree, main

PATH = Path("README.md")


@pytest.mark.parametrize(
    "pieces",
    [
        ("https://py", "pi.org/simple"),
        ("https://files.python", "hosted.org/packages/"),
        ("https://registry", ".npm", "js.org"),
        ("https://registry", ".example.com/v2/"),
        ("gh", "cr.io/someone/image:1"),
        ("https://repo1.", "maven", ".org/maven2"),
        ("pip install --index", "-url https://mirror.example x"),
        ("cd /ho", "me/someone/orchx"),
        ("see /wo", "rk/main/README.md"),
        ("/Us", "ers/someone"),
    ],
)
def test_registry_hosts_and_machine_paths_are_found(pieces: tuple[str, ...]) -> None:
    [finding, *_] = check_text(f"fine\n{''.join(pieces)}\n", PATH)

    assert finding.line == 2
    assert str(finding).startswith("README.md:2: ")


@pytest.mark.parametrize(
    "line",
    [
        "tansu comes from PyPI, mongod too",
        "image: rayproject/ray:2.60.0-py311",
        "volume: /home/ray/data",
        "GET https://example.com/work/orders/7",
        "GET /v1/home/inbox",
        "the registry. Another sentence",
        "model_registry.latest()",
    ],
)
def test_other_names_pass(line: str) -> None:
    assert list(check_text(line, PATH)) == []


def test_a_work_tree_is_read_as_git_sees_it(tmp_path: Path) -> None:
    offence = "py" + "pi.org\n"
    subprocess.run(["git", "init", "--quiet"], cwd=tmp_path, check=True)
    (tmp_path / ".gitignore").write_text("ignored/\n")
    (tmp_path / "ignored").mkdir()
    (tmp_path / "ignored" / "a.txt").write_text(offence)
    (tmp_path / "new.txt").write_text(offence)
    (tmp_path / "binary.bin").write_bytes(b"\0" + offence.encode())

    assert [finding.path for finding in check_tree(tmp_path)] == [Path("new.txt")]


def test_an_unpacked_archive_is_read_without_its_virtual_environment(tmp_path: Path) -> None:
    offence = "py" + "pi.org\n"
    (tmp_path / ".venv").mkdir()
    (tmp_path / ".venv" / "pyvenv.cfg").write_text(offence)
    (tmp_path / "a.txt").write_text("fine\n")
    assert main([str(tmp_path)]) == 0

    (tmp_path / "b.txt").write_text(offence)
    assert main([str(tmp_path)]) == 1
