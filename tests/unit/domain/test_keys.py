"""Names that come out the same whoever computes them."""

from orchx.domain.keys import execution_name, idempotency_key, workflow_id_for


def test_an_execution_is_named_by_its_call_too() -> None:
    one = idempotency_key("wf", "/do/0/a", "")
    other = idempotency_key("wf", "/do/1/b", "")
    assert execution_name("wf", 3, one) != execution_name("wf", 3, other)
    assert execution_name("wf", 3, one) != execution_name("wf", 4, one)


def test_parts_do_not_run_into_each_other() -> None:
    assert workflow_id_for("ab", "c") != workflow_id_for("a", "bc")
    assert idempotency_key("wf", "/do/0/a", "1") != idempotency_key("wf1", "/do/0/a", "")
