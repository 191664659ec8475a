"""The import contracts of pyproject.toml must grow with its dependencies."""

import re
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
ALLOWED_IN_DOMAIN = {"jq", "msgspec"}


def normalised(distribution: str) -> str:
    return re.sub(r"[-_.]+", "-", distribution).lower()


def test_the_domain_contract_forbids_every_dependency_but_its_two() -> None:
    config = tomllib.loads((ROOT / "pyproject.toml").read_text())
    declared = {
        normalised(re.split(r"[\[<>=~! ;]", requirement)[0])
        for requirement in config["project"]["dependencies"]
    }
    contracts = config["tool"]["importlinter"]["contracts"]
    [contract] = [each for each in contracts if each["id"] == "pure-domain"]
    provided = {
        module: {normalised(name) for name in distributions}
        for module, distributions in packages_distributions().items()
    }

    missing = declared - ALLOWED_IN_DOMAIN
    for module in contract["forbidden_modules"]:
        missing -= provided.get(module, set())

    assert missing == set()
    assert not ALLOWED_IN_DOMAIN & set(contract["forbidden_modules"])


def test_the_domain_does_not_drag_in_what_the_package_exports_lazily() -> None:
    program = (
        "import sys, orchx.domain.decide, orchx.client.models\n"
        "assert 'orchx.tasks' not in sys.modules\n"
        "import orchx\n"
        "assert orchx.task is orchx.tasks.task and orchx.TaskError and orchx.TaskContext\n"
        "assert not hasattr(orchx, 'nothing')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stderr
