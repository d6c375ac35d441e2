"""docs/commands.md, typed."""

import contextlib
import json
import os
import re
import socket
import tomllib

import pytest

from ssmtunneld.config import load_config
from ssmtunneld.emulator.settings import Node
from tests.integration.terminal import Screen
from tests.integration.world import tunnel
from tests.interop import servers
from tests.support import moto
from tests.support.ports import free_port
from tests.support.tui import need_textual
from tests.typed.page import looks_like, plays
from tests.typed.stage import ME, program_of, use_ssh

PAGE = "docs/commands.md"
TARGET = "i-0182d91e85d69cf00"
NODES = {TARGET: Node(name="bastion-1", tags={"Role": "bastion"})}
ALIASES = {f"{name}.internal": "127.0.0.1" for name in ("orders", "cache", "wiki")}
BEHIND = {"nodes": NODES, "host_aliases": ALIASES}


@contextlib.contextmanager
def opened(stage, command, count=1):
    """Type a command that opens tunnels; yield their local ports."""
    with stage.running(command) as program:
        program.wait_for("(?s)" + ".*".join([": ready"] * count))
        said = re.findall(r"listening on \S*?:(\d+)", program.log())
        assert len(said) == count, program.log()
        yield said


@plays(PAGE, "open")
def test_open(script, on_stage, http_server, postgresql):
    web, first, second = http_server.port, free_port(), free_port()
    replaced = {
        " 8000 ": f" {web} ",
        ":5432 ": f":{web} ",
        ":6379 ": f":{web} ",
        "*.internal:443": f"*.internal:{web}",
        "15432": first,
        "16379": second,
    }
    with on_stage(replaced, **BEHIND) as (emulator, stage):
        with opened(stage, script.next("ssmtunneld open i-").text) as (local,):
            assert stage.is_served(local)
        with opened(stage, script.next("ssmtunneld open tag:").text, 2) as ports:
            assert ports == [str(first), str(second)]
            assert stage.is_served(first)
            assert stage.is_served(second)
        with opened(stage, script.next("ssmtunneld open name:").text) as (local,):
            assert local == str(first)
            assert stage.is_served(local)
        with stage.running(script.next("ssmtunneld open name:").text) as program:
            place = program.wait_for(r"socks: listening on (127\S+)")[1]
            url = f"http://wiki.internal:{web}/1000/1"
            del stage.environ["NO_PROXY"]
            done = stage.run(f"curl -sf --socks5-hostname {place} {url} | wc -c")
            assert done.stdout.strip() == "1000"
        # The same for a database, whose client is in the command.
        stage.replaced[":5432 "] = f":{postgresql.port} "
        command = script.next("ssmtunneld open -q name:").text
        assert "42" in stage.run(command, data="select 6 * 7;").stdout
        assert {s["status"] for s in emulator.sessions()} == {"Terminated"}


@plays(PAGE, "ssh")
def test_ssh(script, on_stage, sshd):
    nodes = {TARGET: Node(name="web-1", tags={"Role": "bastion"})}
    names = (TARGET, "name-web-1", "tag-Role-bastion")
    replaced = {"ubuntu@": f"{ME}@", "ec2-user@": f"{ME}@", "8080:": f"{free_port()}:"}
    with on_stage(replaced, nodes=nodes) as (emulator, stage):
        use_ssh(stage, sshd, *names)
        for _ in range(2):
            done = stage.run(script.next("ssmtunneld ssh ").text, data="echo in\n")
            assert done.stdout == "in\n"
        done = stage.run(script.next("ssmtunneld ssh tag:").text)
        assert "load average" in done.stdout
        assert {s["status"] for s in emulator.sessions()} == {"Terminated"}


@plays(PAGE, "targets")
def test_targets(script, on_stage):
    nodes = {**NODES, "i-0123456789abcdef0": Node(name="web-1")}
    away = ("offline=i-0123456789abcdef0",)
    with on_stage({}, nodes=nodes, faults=away) as (_, stage):
        stage.profiles("dev", "prod")
        done = stage.run(script.next("ssmtunneld targets").text)
        assert TARGET in done.stdout
        assert "i-0123456789abcdef0" not in done.stdout
        done = stage.run(script.next("ssmtunneld targets bastion --all").text)
        assert TARGET in done.stdout
        done = stage.run(script.next("ssmtunneld targets --profile").text)
        assert TARGET in done.stdout
        json.loads(done.stdout)


@plays(PAGE, "discover")
def test_discover(script, on_stage):
    with moto.running() as cloud, on_stage({}, **BEHIND) as (_, stage):
        bastion = cloud.launch(Role="bastion")
        rds = cloud.client("rds")
        rds.create_db_subnet_group(
            DBSubnetGroupName="ours",
            DBSubnetGroupDescription="x",
            SubnetIds=[cloud.describe(bastion)["SubnetId"]],
        )
        rds.create_db_cluster(
            DBClusterIdentifier="orders",
            Engine="aurora-postgresql",
            DBSubnetGroupName="ours",
            MasterUsername="postgres",
            MasterUserPassword="an-admin-password",
            Port=5432,
        )
        rds.close()
        stage.environ["AWS_ENDPOINT_URL"] = cloud.url
        done = stage.run(script.next("ssmtunneld discover").text)
        for title in ("ID", "ENGINE", "ROLE", "HOST", "PORT"):
            assert title in done.stdout
        done = stage.run(script.next("ssmtunneld discover orders writer").text)
        assert re.search(r"(?m)^orders .* writer ", done.stdout)
        done = stage.run(script.next("ssmtunneld discover --region").text)
        regions = {found["region"] for found in json.loads(done.stdout)["resources"]}
        assert regions == {"eu-west-1"}
        stage.write('[defaults]\ntarget = "tag:Role=bastion"\n')
        stage.run(script.next("ssmtunneld add orders-db --from-discover").text)
        added = tomllib.loads((stage.folder / "config.toml").read_text())
        assert added["tunnels"]["orders-db"]["port"] == 5432


@plays(PAGE, "add and remove")
def test_add_and_remove(script, on_stage):
    with on_stage({}) as (_, stage):
        text = '# Mine.\n[defaults]\ntarget = "name:bastion"\n'
        path = stage.write(text)
        for _ in range(3):
            stage.run(script.next("ssmtunneld add").text)
        config = load_config(path, {})
        assert [each.name for each in config.tunnels] == ["web", "orders-db", "browse"]
        assert config.tunnels[1].max_sessions == 8
        assert config.tunnels[2].destinations
        stage.run(script.next("ssmtunneld remove web").text)
        assert [each.name for each in load_config(path, {}).tunnels] == [
            "orders-db",
            "browse",
        ]
        assert path.read_text().startswith(text)


AWS_LINE = (
    f"aws ssm start-session --target {TARGET} --document-name "
    "AWS-StartPortForwardingSessionToRemoteHost --parameters "
    '\'{"host":["orders.internal"],"portNumber":["5432"],"localPortNumber":["15432"]}\''
)
SSH_CONFIG = f"""\
Host bastion
  HostName {TARGET}
  ProxyCommand aws ssm start-session --target %h --document-name AWS-StartSSHSession \
--parameters portNumber=%p
  LocalForward 15433 orders.internal:5432
"""
BASTI = """\
connections:
  orders:
    target: custom
    localPort: 15434
targets:
  custom:
    customTargetVpc: vpc-1234567890
    customTargetHost: orders.internal
    customTargetPort: 5432
"""


@plays(PAGE, "import")
def test_import(script, on_stage):
    with on_stage({}) as (_, stage):
        stage.write(SSH_CONFIG, "~/.ssh/config")
        stage.write(f"#!/bin/sh\n{AWS_LINE}\n", "tunnel.sh")
        stage.write(BASTI, ".basti.yaml")
        done = stage.run(script.next("ssmtunneld import ~/.ssh/config").text)
        assert tomllib.loads(done.stdout)["tunnels"]
        stage.run(script.next("ssmtunneld import tunnel.sh --add").text)
        (added,) = load_config(stage.folder / "config.toml", {}).tunnels
        assert (added.host, added.port) == ("orders.internal", 5432)
        stage.keep(f'alias orders="{AWS_LINE.replace(chr(34), chr(92) + chr(34))}"')
        done = stage.run(script.next("alias | ssmtunneld import -").text)
        (found,) = tomllib.loads(done.stdout)["tunnels"].values()
        assert found["host"] == "orders.internal"
        done = stage.run(script.next("ssmtunneld import .basti.yaml").text)
        (found,) = tomllib.loads(done.stdout)["tunnels"].values()
        assert found["host"] == "orders.internal"


@pytest.fixture
def team(script, on_stage, http_server):
    """The stage with two tunnels of which one is of the group ``orders``."""
    with on_stage({}, **BEHIND) as (_, stage):
        stage.local = free_port()
        common = {"port": http_server.port, "target": TARGET}
        stage.write(
            tunnel(
                "orders-db",
                listen=f"127.0.0.1:{stage.local}",
                groups=["orders"],
                **common,
            )
            + tunnel("search", **common)
        )
        yield stage


@plays(PAGE, "wait")
def test_wait(script, team):
    with team.daemon():
        for start in ("", " orders-db --timeout", " --group orders"):
            done = team.run(script.next(f"ssmtunneld wait{start}").text)
            assert done.stdout == ""


@plays(PAGE, "exec")
def test_exec(script, on_stage, postgresql, http_server):
    with on_stage({}, **BEHIND) as (_, stage):
        stage.environ["PGUSER"] = "app"
        stage.write(tunnel("orders-db", port=postgresql.port, target=TARGET))
        done = stage.run(script.next("ssmtunneld exec -t").text, data="select 6 * 7;")
        assert "42" in done.stdout
        own = tunnel("web", port=http_server.port, target=TARGET)
        stage.write(own, "ci.toml")
        fetch = 'curl -sf "http://$$SSMTUNNELD_WEB_HOST:$$SSMTUNNELD_WEB_PORT/1000/1"'
        stage.write(f"integration-tests:\n\t@{fetch} | wc -c\n", "Makefile")
        done = stage.run(script.next("ssmtunneld exec -c ci.toml").text)
        assert done.stdout.strip() == "1000"


@plays(PAGE, "drain, pause, resume")
def test_pause_and_resume(script, team):
    with team.daemon():
        team.run(script.next("ssmtunneld pause orders-db search").text)
        states = {name: each["state"] for name, each in team.status().items()}
        assert states == {"orders-db": "paused", "search": "paused"}
        team.run(script.next("ssmtunneld resume --group orders").text)
        states = {name: each["state"] for name, each in team.status().items()}
        assert states["search"] == "paused"
        assert states["orders-db"] != "paused"
        assert team.is_served(team.local)


@plays(PAGE, "top")
def test_top(script, team):
    need_textual()
    with (
        team.daemon(),
        team.terminal(script.next("ssmtunneld top").text, Screen) as shown,
    ):
        shown.see(r"orders-db +ready")
        shown.type("q")
        assert shown.close() == 0


@plays(PAGE, "connections, kill")
def test_connections(script, team):
    place = ("127.0.0.1", team.local)
    with team.daemon(), socket.create_connection(place) as one:
        with socket.create_connection(place) as two:
            for each in (one, two):
                each.sendall(b"GET /1/1 HTTP/1.1\r\nHost: x\r\n\r\n")
                assert each.recv(4) == b"HTTP"
            command = script.next("ssmtunneld connections")
            head, titles, *rows = team.run(command.text).stdout.splitlines()
            shown = command.shown.splitlines()
            assert (head, titles.split()) == (shown[0], shown[1].split())
            cells = [re.split(r" {2,}", row) for row in rows]
            assert {len(row) for row in cells} == {len(re.split(r" {2,}", shown[2]))}
            for row in cells:
                assert looks_like(row[0], "7c1e0a-17")
                assert (row[1], row[2]) == ("orders-db", ME)
                assert re.fullmatch(program_of(os.getpid()), row[3])
        document = script.words("ssmtunneld schema --connections")
        json.loads(team.run(document).stdout)


@plays(PAGE, "logs")
def test_logs(script, team):
    with team.daemon():
        assert team.is_served(team.local)
        command = script.next("ssmtunneld logs orders-db -n 3")
        said = team.run(command.text).stdout.splitlines()
        assert 1 <= len(said) <= 3
        line = re.compile(
            r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d \w+ +[a-z_]+\.[a-z_]+ orders-db "
        )
        for each in [*said, *command.shown.splitlines()]:
            assert line.match(each), each


@plays(PAGE, "sessions")
def test_sessions(script, team):
    ended = "alice-0f1e2d3c4b5a69788abcdefghi"
    with team.daemon():
        held = team.run(script.next("ssmtunneld sessions").text).stdout
        assert "orders-db" in held
        assert "search" in held
        own = team.run(script.next("ssmtunneld sessions orders-db").text).stdout
        assert "orders-db" in own
        assert "search" not in own
        history = team.run(script.next("ssmtunneld sessions --history").text).stdout
        document = json.loads(history)
        assert (document["version"], document["history"]) == (1, True)
        everybody = script.next("ssmtunneld sessions --all-owners").text
        assert "orders-db" in team.run(everybody).stdout
        command = script.next("ssmtunneld sessions terminate").text
        document = json.loads(team.run("ssmtunneld sessions --json").stdout)
        assert set(document["sessions"][0]) >= {"id", "state", "tunnel", "held"}
        ours = document["sessions"][0]["id"]
        # One of a daemon here is ended only if somebody says so.
        team.run(command, code=1)
        refused = team.run(command.replace(ended, ours), code=None)
        assert refused.returncode != 0
        team.run(command.replace(ended, f"{ours} --yes"))


@plays(PAGE, "connect")
def test_connect(script, on_stage, postgresql, sshd):
    replaced = {"8080:": f"{free_port()}:"}
    with on_stage(replaced, **BEHIND) as (_, stage):
        use_ssh(stage, sshd, TARGET)
        database = {"db_engine": "postgres", "db_user": "app", "db_name": "orders"}
        stage.write(
            tunnel("orders-db", port=postgresql.port, target=TARGET, **database)
            + tunnel("bastion-ssh", port=sshd.port, target=TARGET, probe="banner:SSH-")
        )
        ask = "select ssl from pg_stat_ssl where pid = pg_backend_pid();"
        command = script.next("ssmtunneld connect orders-db").text
        assert "t" in stage.run(command, data=ask).stdout.split()
        done = stage.run(script.next("ssmtunneld connect orders-db -- -c").text)
        assert "(1 row)" in done.stdout
        if servers.find("pg_dump"):
            stage.run(script.next("ssmtunneld connect orders-db --client").text)
            assert (stage.home / "orders.dump").read_bytes().startswith(b"PGDMP")
        done = stage.run(
            script.next("ssmtunneld connect bastion-ssh").text, data="echo in\n"
        )
        assert done.stdout == "in\n"


@plays(PAGE, "Completion")
def test_completion(script, on_stage):
    with on_stage({}) as (_, stage):
        (stage.home / ".config" / "fish" / "completions").mkdir(parents=True)
        for shell in ("bash", "zsh"):
            stage.run(script.next("echo ").text)
            line = (stage.home / f".{shell}rc").read_text()
            assert line == f"source <(ssmtunneld completion {shell})\n"
        done = stage.run(". ~/.bashrc; complete -p ssmtunneld", shell="bash")
        assert "ssmtunneld" in done.stdout
        stage.run(script.next("ssmtunneld completion fish").text)
        written = stage.home / ".config/fish/completions/ssmtunneld.fish"
        assert "complete" in written.read_text()
