import re
import sys
import tomllib
from pathlib import Path

import pytest

from tools.services import mongodb_server, packages, redis_server, tansu
from tools.services.packages import CONSTRAINTS, packaged_program, pinned_version
from tools.services.server import UnobtainableError, complaint, last_words, output_of

ROOT = Path(__file__).resolve().parents[3]
PACKAGES = {redis_server.PACKAGE, mongodb_server.PACKAGE, tansu.PACKAGE}


def test_the_extra_lists_the_packages_that_are_used_and_all_are_pinned() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    listed = {re.split(r"[>=]", each)[0] for each in extras["optional-dependencies"]["services"]}

    assert listed == PACKAGES
    assert all(pinned_version(package, CONSTRAINTS) for package in PACKAGES)


def test_a_package_that_is_not_pinned_is_not_installed(tmp_path: Path) -> None:
    (tmp_path / "constraints.txt").write_text("redis-server-more==1.0\n")

    with pytest.raises(UnobtainableError, match="does not pin redis-server"):
        pinned_version("redis-server", tmp_path / "constraints.txt")


@pytest.fixture
def installations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What would be installed, in an environment that holds `present` 1.0 with a program."""
    done: list[str] = []
    info = tmp_path / "site" / "present-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: present\nVersion: 1.0\n")
    (tmp_path / "site" / "program").write_text("#!/bin/sh\n")
    (tmp_path / "constraints.txt").write_text("absent==3.0\npresent==1.0\n")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    monkeypatch.setattr(packages, "CONSTRAINTS", tmp_path / "constraints.txt")
    monkeypatch.setattr(packages, "_install", done.append)
    return done


def test_an_installed_program_is_used_and_made_runnable(
    installations: list[str], tmp_path: Path
) -> None:
    program = packaged_program("present", "program")

    assert program == tmp_path / "site" / "program"
    assert program.stat().st_mode & 0o111
    assert installations == []


def test_another_version_than_the_pinned_one_is_replaced(
    installations: list[str], tmp_path: Path
) -> None:
    (tmp_path / "constraints.txt").write_text("present==2.0\n")

    packaged_program("present", "program")

    assert installations == ["present==2.0"]


def test_a_package_without_the_program_is_told(installations: list[str]) -> None:
    with pytest.raises(UnobtainableError, match=r"present 1\.0 ships no another"):
        packaged_program("present", "another")
    with pytest.raises(UnobtainableError, match=r"absent 3\.0 ships no"):
        packaged_program("absent", "program")
    assert installations == ["absent==3.0"]


def test_a_failed_installation_is_told_with_pips_first_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pip = tmp_path / "python"
    pip.write_text("#!/bin/sh\necho 'ERROR: no network'; echo 'ERROR: gave up'; exit 1\n")
    pip.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(pip))

    with pytest.raises(UnobtainableError, match=r"^absent==3\.0 cannot be .* ERROR: no network$"):
        packages._install("absent==3.0")


def test_a_failed_program_is_told_with_what_it_complained_of() -> None:
    script = "echo fine; echo 'ERROR: no such package' >&2; echo 'ERROR: gave up' >&2; exit 3"

    with pytest.raises(UnobtainableError, match=r"^sh failed \(3\): ERROR: no such package$"):
        output_of(["/bin/sh", "-c", script], timeout_s=10)


def test_a_program_that_takes_too_long_is_ended() -> None:
    with pytest.raises(UnobtainableError, match="sh did not end within 0 s"):
        output_of(["/bin/sh", "-c", "exec tail -f /dev/null"], timeout_s=0.05)


def test_a_program_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(UnobtainableError, match="mongod does not run"):
        output_of([tmp_path / "mongod"], timeout_s=10)


def test_output_without_an_error_is_told_by_its_end() -> None:
    text = "\n".join(f"line {number}" for number in range(9)) + "\n\n"

    assert complaint(text) == last_words(text) == "line 6 | line 7 | line 8"


def test_a_program_is_run_without_our_standard_input() -> None:
    program = [sys.executable, "-c", "import sys; print(repr(sys.stdin.read()))"]

    assert output_of(program, timeout_s=20).strip() == "''"
