"""Submit and wait over HTTP, the load made by wrk: a Python client costs more than the server."""

from __future__ import annotations

import json
import re
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

from benchmarks import workload
from benchmarks.in_cluster import Measured
from orchx.engine.placement import Isolation

_SCRIPT = """\
wrk.method = "POST"
wrk.headers["content-type"] = "application/json"
wrk.headers["authorization"] = "Bearer {key}"
wrk.body = '{body}'
wrk.path = "/v1/requests?wait=30"
response = function(status, headers, body)
  if status ~= 200 or not string.find(body, '"completed"', 1, true) then
    failed = (failed or 0) + 1
  end
end
local threads = {{}}
setup = function(thread) table.insert(threads, thread) end
done = function(summary, latency, requests)
  local failed = 0
  for _, thread in ipairs(threads) do failed = failed + (thread:get("failed") or 0) end
  io.write(string.format("\\nRESULT {{\\"requests\\": %d, \\"us\\": %d, \\"p50_us\\": %d, " ..
    "\\"p99_us\\": %d, \\"failed\\": %d, \\"errors\\": %d}}\\n", summary.requests,
    summary.duration, latency:percentile(50), latency:percentile(99), failed,
    summary.errors.connect + summary.errors.read + summary.errors.write + summary.errors.timeout))
end
"""


def measure(
    url: str,
    key: str,
    *,
    at_once: int,
    duration_s: float,
    isolation: Isolation,
    cpu_s: Callable[[], float],
) -> Measured:
    """Keep `at_once` connections busy for `duration_s` seconds; wrk's own CPU does not count.

    Raises:
        FileNotFoundError: wrk is not installed.
        RuntimeError: wrk failed or printed no result.
    """
    definition = {
        "namespace": workload.NAMESPACE,
        "name": workload.NAME,
        "version": workload.VERSION,
    }
    body = json.dumps({"definition": definition, "input": {"n": 1}, "isolation": isolation})
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "requests.lua"
        script.write_text(_SCRIPT.format(key=key, body=body))
        begun_cpu_s = cpu_s()
        told = subprocess.run(
            ["wrk", "-t1", f"-c{at_once}", f"-d{duration_s:g}s", "--timeout", "30s",
             "-s", str(script), url],
            capture_output=True,
            text=True,
            check=False,
            timeout=duration_s + 60,
        )  # fmt: skip
        used_s = cpu_s() - begun_cpu_s
    found = re.search(r"^RESULT (.*)$", told.stdout, re.MULTILINE)
    if told.returncode != 0 or found is None:
        raise RuntimeError(f"wrk failed: {told.stderr or told.stdout}")
    result = json.loads(found.group(1))
    count = max(1, result["requests"])
    return Measured(
        workflows=result["requests"],
        per_s=round(result["requests"] / (result["us"] / 1e6), 1),
        p50_ms=round(result["p50_us"] / 1000, 2),
        p99_ms=round(result["p99_us"] / 1000, 2),
        cpu_ms_per_workflow=round(used_s * 1000 / count, 2),
        failed=result["failed"] + result["errors"],
    )
