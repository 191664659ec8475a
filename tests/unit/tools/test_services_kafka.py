from pathlib import Path

import pytest

from tools.services import apache_kafka, kafka_server, tansu
from tools.services.apache_kafka import Broker, cluster_id, jars, kafka_version, properties
from tools.services.kafka_server import (
    CHOICE,
    Choice,
    KafkaServer,
    choose,
    parse_java_version,
)
from tools.services.server import Launch, UnobtainableError


def test_apache_kafka_is_chosen_where_java_and_maven_are() -> None:
    assert choose({}, java=17, has_maven=True) == Choice(kafka="apache")


@pytest.mark.parametrize(
    ("java", "has_maven", "reason"),
    [
        (None, True, "no Java 17 or newer"),
        (11, True, "Java is 11, not 17 or newer"),
        (21, False, "no Maven"),
        (None, False, "no Java 17 or newer, no Maven"),
    ],
)
def test_tansu_is_chosen_where_something_is_lacking_and_it_is_said_what(
    java: int | None, has_maven: bool, reason: str
) -> None:
    assert choose({}, java=java, has_maven=has_maven) == Choice(kafka="tansu", reason=reason)


def test_the_variable_decides() -> None:
    forced = choose({CHOICE: "tansu"}, java=17, has_maven=True)

    assert forced == Choice(kafka="tansu", reason=f"as {CHOICE} says")
    assert choose({CHOICE: "apache"}, java=17, has_maven=True).kafka == "apache"


def test_another_kafka_is_not_put_in_place_of_the_one_asked_for() -> None:
    with pytest.raises(UnobtainableError, match="no Maven"):
        choose({CHOICE: "apache"}, java=17, has_maven=False)


@pytest.mark.parametrize("asked_for", [None, "apache"])
def test_tansu_stands_in_where_maven_fails_unless_apache_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked_for: str | None
) -> None:
    def fail(_: Path) -> Path:
        raise UnobtainableError("no route to host")

    def stand_in(port: int, *, reason: str) -> Launch:
        return Launch(description=reason, command=("tansu", str(port)))

    monkeypatch.setattr(kafka_server, "java_version", lambda: 17)
    monkeypatch.setattr("shutil.which", lambda _: "/bin/mvn")
    monkeypatch.setattr(apache_kafka, "jars", fail)
    monkeypatch.setattr(tansu, "prepare", stand_in)
    if asked_for is None:
        monkeypatch.delenv(CHOICE, raising=False)
    else:
        monkeypatch.setenv(CHOICE, asked_for)
    server = KafkaServer(port=4711, controller_port=4712, libraries=tmp_path)

    if asked_for is None:
        launch = server.prepare(tmp_path)
        assert launch.description == "Maven cannot fetch that: no route to host"
    else:
        with pytest.raises(UnobtainableError, match="no route"):
            server.prepare(tmp_path)


def test_an_unknown_kafka_is_refused() -> None:
    with pytest.raises(UnobtainableError, match=r"'redpanda'.*apache or tansu"):
        choose({CHOICE: "redpanda"}, java=17, has_maven=True)


@pytest.mark.parametrize(
    ("printed", "version"),
    [
        ('openjdk version "17.0.15" 2025-04-15\nOpenJDK Runtime Environment', 17),
        ('java version "1.8.0_392"', 8),
        ('openjdk version "25" 2025-09-16', 25),
        ("Unable to locate a Java Runtime.", None),
    ],
)
def test_javas_version_is_read(printed: str, version: int | None) -> None:
    assert parse_java_version(printed) == version


def test_the_configuration_keeps_kafka_on_loopback_and_makes_no_topics_by_itself() -> None:
    text = properties(Path("/data/here"), Broker(port=19092, controller_port=19093))
    lines = dict(line.split("=", 1) for line in text.splitlines())

    assert lines["listeners"] == "PLAINTEXT://127.0.0.1:19092,CONTROLLER://127.0.0.1:19093"
    assert lines["advertised.listeners"] == "PLAINTEXT://127.0.0.1:19092"
    assert lines["controller.quorum.voters"] == "1@127.0.0.1:19093"
    assert lines["log.dirs"] == "/data/here"
    assert lines["auto.create.topics.enable"] == "false"
    assert lines["group.initial.rebalance.delay.ms"] == "0"
    copies = [value for key, value in lines.items() if key.endswith("replication.factor")]
    assert copies == ["1"] * 3


def test_one_of_three_brokers_knows_the_others_and_keeps_three_copies() -> None:
    voters = ("1@10.0.0.1:2", "2@10.0.0.2:2", "3@10.0.0.3:2")
    broker = Broker(host="10.0.0.2", port=1, controller_port=2, node_id=2, voters=voters)
    text = properties(Path("/data"), broker)
    lines = dict(line.split("=", 1) for line in text.splitlines())

    assert lines["node.id"] == "2"
    assert lines["controller.quorum.voters"] == ",".join(voters)
    assert lines["listeners"] == "PLAINTEXT://10.0.0.2:1,CONTROLLER://10.0.0.2:2"
    assert lines["offsets.topic.replication.factor"] == "3"
    assert lines["transaction.state.log.min.isr"] == "2"


def test_a_cluster_id_is_one_that_kafkas_command_line_takes() -> None:
    ids = {cluster_id() for _ in range(50)}

    assert len(ids) == 50
    assert all(len(each) == 22 and each[0] == "A" for each in ids)


def test_the_version_is_that_of_the_pom() -> None:
    assert kafka_version(apache_kafka.POM.read_text()).startswith("4.")
    with pytest.raises(UnobtainableError):
        kafka_version("<project/>")


def fake_maven(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> Path:
    """Puts a `mvn` of our own on PATH; returns the file in which it counts its calls."""
    calls = folder / "calls"
    program = folder / "bin" / "mvn"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\necho call >> "{calls}"\n{script}\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
    return calls


def test_the_jars_are_fetched_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = (
        'for last; do :; done; out=${last#-DoutputDirectory=}; mkdir "$out"; touch "$out/a.jar"'
    )
    calls = fake_maven(tmp_path, monkeypatch, script)

    folder = jars(tmp_path / "libs")
    again = jars(tmp_path / "libs")

    assert folder == again
    assert [each.name for each in folder.iterdir()] == ["a.jar"]
    assert list((tmp_path / "libs").iterdir()) == [folder]
    assert calls.read_text().splitlines() == ["call"]


def test_a_failed_fetch_is_told_with_mavens_first_error_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_maven(
        tmp_path, monkeypatch, "echo '[ERROR] no route'; echo '[ERROR] For more help'; exit 1"
    )

    with pytest.raises(UnobtainableError, match=r"no route \(without it: .*tansu\)"):
        jars(tmp_path / "libs")

    assert list((tmp_path / "libs").iterdir()) == []


def test_tansu_listens_on_loopback_and_says_why_it_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "tansu"
    program.write_text("#!/bin/sh\necho tansu-cli 0.6.0\n")
    program.chmod(0o755)
    monkeypatch.setattr(tansu, "packaged_program", lambda package, path: program)

    launch = tansu.prepare(19092, reason="no Maven")

    assert launch.description == "Tansu 0.6.0 in place of Apache Kafka (no Maven)"
    assert launch.command[:2] == (str(program), "broker")
    assert launch.command.count("tcp://127.0.0.1:19092") == 2


def test_a_storage_that_is_formatted_is_not_formatted_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands: list[tuple[str, ...]] = []

    def record(command: tuple[str, ...], *, timeout_s: float) -> str:
        commands.append(tuple(command))
        (tmp_path / "data").mkdir()
        (tmp_path / "data" / "meta.properties").touch()
        return ""

    monkeypatch.setattr(apache_kafka, "output_of", record)

    for _ in range(2):
        broker = Broker(port=1, controller_port=2)
        launch = apache_kafka.prepare(tmp_path, broker, jars=Path("/jars"))

        assert launch.command[-2:] == ("kafka.Kafka", str(tmp_path / "server.properties"))
        assert "/jars/*" in launch.command
    assert len(commands) == 1
    assert "kafka.tools.StorageTool" in commands[0]
