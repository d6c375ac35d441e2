"""``ssmtunneld status``: the table, the document, and tunnels by name."""

import json
import re
import subprocess
import sys

import pytest

from tests.cli.household import (
    Household,
    call,
    document,
    off,
    serving,
    tunnel_document,
    waiting,
)


@pytest.fixture
def operator(home):
    household = Household(
        document(tunnel_document(), waiting(), tunnel_document("web"))
    )
    with serving(household):
        yield household


def test_it_shows_every_tunnel_below_a_headline(operator, capsys):
    code, out, err = call(capsys, "status")
    assert (code, err) == (0, "")
    head, columns, db, dead, reason, advice, web = out.splitlines()
    assert head.endswith("/etc/c.toml: 2 of 3 tunnels usable")
    assert columns.startswith("NAME  STATE    LISTEN")
    assert [line.split()[:2] for line in (db, dead, web)] == [
        ["db", "ready"],
        ["dead", "waiting"],
        ["web", "ready"],
    ]
    assert (reason.strip(), advice.strip()) == ("nobody answers.", "-> start the agent")
    assert out == "".join(f"{line.rstrip()}\n" for line in out.splitlines())


def test_it_shows_only_the_tunnels_that_are_named(operator, capsys):
    code, out, _ = call(capsys, "status", "web", "db")
    assert code == 0
    assert [line.split()[0] for line in out.splitlines()[2:]] == ["db", "web"]


def test_the_document_is_the_daemons_own(operator, capsys):
    code, out, _ = call(capsys, "status", "--json")
    assert (code, json.loads(out)) == (0, operator.status())
    _, out, _ = call(capsys, "status", "--json", "web")
    assert json.loads(out) == {**operator.status(), "tunnels": [tunnel_document("web")]}


def test_a_tunnel_that_does_not_exist_ends_it_with_2(operator, capsys):
    code, out, err = call(capsys, "status", "wed")
    assert (code, out) == (2, "")
    config = operator.status()["config"]
    said = f"no tunnel is called wed in {config}; did you mean web?"
    assert err == f"ssmtunneld: {said}\n"
    assert "is called '' in " in call(capsys, "status", "")[2]


def test_without_a_daemon_it_ends_with_3(home, capsys):
    code, out, err = call(capsys, "status")
    assert (code, out) == (3, "")
    assert err == "ssmtunneld: no daemon runs; start one: ssmtunneld run\n"


def test_a_daemon_without_tunnels_has_a_headline_only(home, capsys):
    with serving(Household(document())):
        _, out, _ = call(capsys, "status")
    assert len(out.splitlines()) == 1


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--json", "--watch"), "exclude each other"),
        (("--watch",), "--watch needs a terminal"),
    ],
)
def test_what_cannot_be_watched_is_wrong_usage(operator, capsys, options, words):
    code, out, err = call(capsys, "status", *options)
    assert (code, out) == (2, "")
    assert words in err


_PROBE = """
import json, sys
from ssmtunneld.cli.main import main
try:
    main(sys.argv[1:])
except SystemExit as end:
    assert not end.code, end.code
heavy = ["asyncio", "aiohttp", "boto3", "pydantic", "websockets", "structlog", "rich"]
print(json.dumps([name for name in heavy if name in sys.modules]), file=sys.stderr)
"""


@pytest.mark.parametrize(
    ("arguments", "loaded"), [(["status"], ["rich"]), (["status", "--json"], [])]
)
def test_it_loads_nothing_that_it_does_not_need(operator, arguments, loaded):
    command = [sys.executable, "-c", _PROBE, *arguments]
    result = subprocess.run(command, capture_output=True, check=True)
    assert json.loads(result.stderr) == loaded


def test_it_shows_only_the_tunnels_of_a_group(operator, capsys):
    operator.documents = [
        document(
            tunnel_document("db", groups=["orders"]),
            tunnel_document("web"),
            off("old", groups=["orders"]),
        )
    ]
    code, out, _ = call(capsys, "status", "--group", "orders", "--json")
    names = [tunnel["name"] for tunnel in json.loads(out)["tunnels"]]
    assert (code, names) == (0, ["db", "old"])
    code, out, _ = call(capsys, "status", "--group", "orders")
    assert "1.0, pid 7" in out
    assert "2 of 2 tunnels usable, 1 disabled" in out
    assert re.search(r"(?m)^old +disabled +- ", out)
    assert call(capsys, "status", "--group", "order")[0] == 2
