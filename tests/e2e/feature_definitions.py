"""The workflow documents of the feature tests."""

from __future__ import annotations

LISTENER = """\
document: {dsl: '1.0.3', namespace: e2e, name: listener, version: '1.0.0'}
do:
  - decide:
      listen:
        to:
          one:
            with: {type: com.e2e.decision}
            correlate:
              order: {from: '${ .data.order }', expect: '${ $workflow.input.order }'}
  - note: {set: {answer: '${ .[0].answer }'}}
"""
CHILD = """\
document: {dsl: '1.0.3', namespace: e2e, name: child, version: '1.0.0'}
do:
  - rest: {wait: {milliseconds: 50}}
  - double: {set: {doubled: '${ $workflow.input.n * 2 }'}}
"""
PARENT = """\
document: {dsl: '1.0.3', namespace: e2e, name: parent, version: '1.0.0'}
do:
  - each:
      for: {each: n, in: '${ [1, 2, 3] }'}
      do:
        - ask:
            run: {workflow: {namespace: e2e, name: child, version: '1.0.0', input: {n: '${ $n }'}}}
            export: {as: '${ {all: (($context.all // []) + [.doubled])} }'}
output: {as: '${ $context.all }'}
"""
HOSTILE = """\
document: {dsl: '1.0.3', namespace: e2e, name: hostile, version: '1.0.0'}
do:
  - spin: {set: {never: '${ last(range(1e12)) }'}}
"""
BRISK = """\
document: {dsl: '1.0.3', namespace: e2e, name: brisk, version: '1.0.0'}
do:
  - rest: {wait: {milliseconds: 100}}
  - say: {set: {said: '${ $workflow.input.n }'}}
"""
IMPATIENT = """\
document: {dsl: '1.0.3', namespace: e2e, name: impatient, version: '1.0.0'}
do:
  - send:
      call: mail.send-message
      with: {to: 'ada@example.org', subject: '${ $workflow.input.subject }', body: Hello.}
      timeout: {after: {milliseconds: 700}}
"""
HOLDING = """\
document: {dsl: '1.0.3', namespace: e2e, name: holding, version: '1.0.0'}
do:
  - send:
      call: mail.send-message
      with: {to: 'ada@example.org', subject: '${ $workflow.input.name }', body: Hello.}
"""


def versioned(version: str) -> str:
    """Return a document that waits, and then tells which version it is."""
    return f"""\
document: {{dsl: '1.0.3', namespace: e2e, name: changing, version: '{version}'}}
do:
  - pause: {{listen: {{to: {{one: {{with: {{type: com.e2e.go-on}}}}}}}}}}
  - tell: {{set: {{version: '{version}'}}}}
"""
