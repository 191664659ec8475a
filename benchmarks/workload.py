"""The workload of the engine benchmark: a workflow of five calls, one after the other."""

from __future__ import annotations

import orchx

NAMESPACE = "bench"
NAME = "five-tasks"
VERSION = "1.0.0"
TASKS = 5

DEFINITION = f"""\
document: {{dsl: '1.0.3', namespace: {NAMESPACE}, name: {NAME}, version: '{VERSION}'}}
do:
""" + "".join(
    f"  - step{number}: {{call: bench.echo, with: {{n: '${{ .n }}'}}}}\n"
    for number in range(1, TASKS + 1)
)


@orchx.task(name="bench.echo")
async def echo(n: int) -> dict[str, int]:
    """Give back what came: what is measured is the engine around it."""
    return {"n": n}
