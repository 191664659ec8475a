"""A stand-in for an enterprise's HR, Finance and IT services, run as a process of its own.

It validates, keeps a ledger of every effect so that duplicates can be counted, and
misbehaves on request. Start it with `python -m orchx.sandbox --data DIR`.
"""
