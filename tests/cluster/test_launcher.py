"""`ray up` with the launcher's file for machines that are there: by SSH, as it is typed."""

from __future__ import annotations

import hashlib
import json
import re
import shlex
import shutil
import sys
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml

from orchx.settings import Settings
from tests import servers
from tests.e2e.conditions import eventually
from tests.e2e.machines import Machine, machines, what_is_missing
from tests.e2e.server_process import ROOT

UP_TIMEOUT_S = 600.0
DOWN_TIMEOUT_S = 180.0  # nodes end when they have missed the head for a minute
PORT = 8600
COLOURS = re.compile(r"\x1b\[[0-9;]*m")
DOCUMENT = """\
document: {dsl: '1.0.3', namespace: launcher, name: hello, version: '1.0.0'}
do:
  - greet: {set: {hello: '${ $workflow.input.name }'}}
"""

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1_500)]


@pytest.fixture(scope="module")
def settings() -> Settings:
    if missing := what_is_missing():
        pytest.skip(f"the launcher is not tested: {missing}")
    return servers.stores(servers.apache_kafka(partitions=2))


@pytest.fixture(scope="module")
def site(
    settings: Settings, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Mapping[str, Machine]]:
    """An operator's machine, a head, a machine that stays and one that may go."""
    addresses = [
        settings.kafka.bootstrap_servers[0],
        urlsplit(settings.mongodb.uri.get_secret_value()).netloc,
        urlsplit(settings.redis.url.get_secret_value()).netloc,
    ]
    ports = [int(address.rpartition(":")[2]) for address in addresses]
    folder = tmp_path_factory.mktemp("site")
    with machines(folder, ("operator", "head", "stable", "spot"), ports) as made:
        (made["spot"].home / "orchx-labels").write_text("orchx-tier=spot\n")
        yield made


def prepare(site: Mapping[str, Machine], settings: Settings) -> None:
    """Do what the launcher's file says at its top; change addresses and the user, no more."""
    here = site["operator"].home / "cluster"
    shutil.copytree(ROOT / "cluster", here)
    config = yaml.safe_load((here / "on-premises.yaml").read_text(encoding="utf-8"))
    config["provider"]["head_ip"] = site["head"].address
    config["provider"]["worker_ips"] = [site[name].address for name in ("stable", "spot")]
    config["auth"] = {"ssh_user": "root", "ssh_private_key": "~/.ssh/id_ed25519"}
    config["min_workers"] = config["max_workers"] = 2
    (here / "on-premises.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    example = (here / "node" / "orchx.env.example").read_text(encoding="utf-8")
    changed = {
        **servers.environment(settings),
        "ORCHX_CLUSTER__OWNER_NODES": "1",
        "ORCHX_CLUSTER__POOL_NODES": "1",
        "ORCHX_CLUSTER__WAIT_S": "400",
    }
    lines = [f"{name}={shlex.quote(value)}" for name, value in changed.items()]
    (here / "node" / "orchx.env").write_text("\n".join([example, *lines, ""]), encoding="utf-8")
    pretend_installed(site, here / "node")
    key = site["operator"].home / ".ssh" / "id_ed25519"
    key.parent.mkdir(mode=0o700)
    shutil.copy(site["operator"].home.parents[1] / "key", key)
    site["operator"].run("ray get-auth-token --generate")


def pretend_installed(site: Mapping[str, Machine], node: Path) -> None:
    """Have the nodes run what runs here, as if it came from a wheel."""
    wheel, pins = b"no wheel: it would be installed", b""
    (node / "orchx-0-py3-none-any.whl").write_bytes(wheel)
    (node / "constraints.txt").write_bytes(pins)
    for machine in site.values():
        machine.install(sys.prefix, hashlib.sha256(wheel + pins).hexdigest()[:16])


def is_without_ray(machine: Machine) -> bool:
    return machine.run("pgrep -x raylet", check=False) is None


def test_an_operator_has_a_cluster_with_one_command(
    site: Mapping[str, Machine], settings: Settings, tmp_path: Path
) -> None:
    prepare(site, settings)
    operator, head = site["operator"], site["head"]
    said = operator.run("cd cluster && ray up -y on-premises.yaml", timeout_s=UP_TIMEOUT_S)
    assert said is not None
    said = COLOURS.sub("", said)
    assert "orchx takes requests at" in said
    assert "`orchx down` stops it." in said

    settings_here = "set -a; . ~/orchx-node/orchx.env; set +a; export RAY_ADDRESS=auto; "
    # The same again finds everything, and tells where it is.
    told = head.run(settings_here + "orchx up --detach --json", timeout_s=UP_TIMEOUT_S)
    assert told is not None
    nodes = {name: node["address"] for name, node in json.loads(told)["nodes"].items()}
    pools = {address for name, address in nodes.items() if name.startswith("pool-")}
    others = {address for name, address in nodes.items() if not name.startswith("pool-")}
    assert pools == {site["spot"].address}
    assert others == {site["stable"].address}

    # Any node that takes requests knows the key that was made on another.
    key = head.run(settings_here + "orchx keys create me --scope admin")
    assert key is not None
    (operator.home / "hello.yaml").write_text(DOCUMENT, encoding="utf-8")
    for name in ("head", "stable"):
        client = f"ORCHX_API_KEY={key.strip()} ORCHX_URL=http://{site[name].address}:{PORT} orchx "
        operator.run(client + "definitions publish hello.yaml")
        (operator.home / "input.json").write_text(json.dumps({"name": name}))
        submit = "submit --definition launcher/hello --input @input.json --wait 60 --json"
        done = operator.run(client + submit)
        assert done is not None
        assert json.loads(done)["output"] == {"hello": name}

    for machine in (head, site["stable"], site["spot"]):
        modes = machine.run("stat -c %a ~/.ray/auth_token ~/orchx-node/orchx.env")
        assert modes == "600\n600\n"
    refused = "RAY_AUTH_MODE=token RAY_AUTH_TOKEN=" + "0" * 64
    assert head.run(settings_here + f"{refused} orchx down", check=False) is None

    stopped = head.run(settings_here + "RAY_AUTH_MODE=token orchx down --json")
    assert stopped is not None
    assert set(json.loads(stopped)["stopped"]) == set(nodes)
    operator.run("cd cluster && ray down -y on-premises.yaml", timeout_s=UP_TIMEOUT_S)
    for machine in (head, site["stable"], site["spot"]):
        ended = partial(is_without_ray, machine)
        eventually(ended, f"Ray's end at {machine.address}", timeout_s=DOWN_TIMEOUT_S, poll_s=1.0)
