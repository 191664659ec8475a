from pathlib import Path

import pytest

from tools.check_sizes import (
    FILE_MAX_LINES,
    FILE_WARN_LINES,
    FUNCTION_MAX_LINES,
    Finding,
    check_source,
    main,
)

PATH = Path("orchx/example.py")


def findings(source: str) -> list[Finding]:
    return list(check_source(source, PATH))


def function_of(lines: int, *, head: str = "def run():", docstring_lines: int = 0) -> str:
    docstring = ['    """Words.', *["    more"] * (docstring_lines - 2), '    """']
    body = ["    x = 1"] * lines
    return "\n".join([head, *(docstring if docstring_lines else []), *body]) + "\n"


def test_a_file_may_reach_its_limits_and_not_pass_them() -> None:
    assert findings("x = 1\n" * FILE_WARN_LINES) == []

    [warning] = findings("x = 1\n" * (FILE_WARN_LINES + 1))
    assert not warning.is_error

    [warning] = findings("x = 1\n" * FILE_MAX_LINES)
    assert not warning.is_error

    [error] = findings("x = 1\n" * (FILE_MAX_LINES + 1))
    assert error.is_error
    assert str(error).startswith(f"orchx/example.py:{FILE_MAX_LINES + 1}: error: file of ")


@pytest.mark.parametrize("head", ["def run():", "async def run():"])
def test_a_function_may_reach_its_limit_and_not_pass_it(head: str) -> None:
    assert findings(function_of(FUNCTION_MAX_LINES, head=head)) == []

    [error] = findings(function_of(FUNCTION_MAX_LINES + 1, head=head))

    assert error.is_error
    assert error.line == 1
    assert "body of run has 71 lines" in error.message


def test_a_docstring_does_not_count_as_body() -> None:
    assert findings(function_of(FUNCTION_MAX_LINES, docstring_lines=40)) == []


def test_a_signature_does_not_count_as_body() -> None:
    head = "\n".join(["def run(", *[f"    a{n}," for n in range(30)], "):"])

    assert findings(function_of(FUNCTION_MAX_LINES, head=head)) == []


def test_a_method_and_an_inner_function_are_found_where_they_stand() -> None:
    inner = function_of(FUNCTION_MAX_LINES + 1).replace("\n", "\n    ").rstrip()

    [error] = findings(f"class A:\n    {inner}\n")

    assert error.line == 2


def test_a_nested_function_counts_for_both() -> None:
    inner = function_of(FUNCTION_MAX_LINES).replace("\n", "\n    ").rstrip()

    [error] = findings(f"def outer():\n    {inner}\n")

    assert "body of outer has 71 lines" in error.message


def test_the_exit_status_is_1_for_an_error_only(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "orchx").mkdir()
    module = tmp_path / "orchx" / "module.py"

    module.write_text("x = 1\n" * (FILE_WARN_LINES + 1))
    assert main([str(tmp_path)]) == 0
    assert "orchx/module.py:301: warning:" in capsys.readouterr().out

    module.write_text(function_of(FUNCTION_MAX_LINES + 1))
    assert main([str(tmp_path)]) == 1
    assert "orchx/module.py:1: error:" in capsys.readouterr().out
