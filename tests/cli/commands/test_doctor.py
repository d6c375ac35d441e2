"""``ssmtunneld doctor`` prints what was found, as lines or as JSON."""

import json
import socket

import pytest

from ssmtunneld.cli.commands.doctor import _Lines
from ssmtunneld.doctor.report import NOT_REACHED, Finding, Verdict
from ssmtunneld.observe import logs
from tests.cli.household import Household, call, document, serving, tunnel_document
from tests.doctor.conftest import (  # noqa: F401 - these are fixtures
    NAME,
    aws_files,
    surgery,
    theatre,
)
from tests.integration.world import tunnel

# Click knows that nobody looks, and leaves colours out.


@pytest.fixture(autouse=True)
def _quiet(_logging):
    """Keep the emulator, which runs in this process, off the standard output."""
    logs.configure("error", "auto")


def write(home, theatre, **settings):  # noqa: F811 - the way of pytest
    path = home / "config.toml"
    way = {"host": NAME, "port": theatre.port, **settings}
    path.write_text(tunnel("db", **way) + "\n" + tunnel("ssh", port=theatre.port))
    return path


def test_each_hop_is_a_line_and_all_is_well(home, theatre, capsys):  # noqa: F811 - the way of pytest
    path = write(home, theatre)
    code, out, _ = call(capsys, "doctor", "-c", path)
    lines = out.splitlines()
    assert code == 0
    assert lines[0] == f"  [ok]    config: {path}, 2 tunnels"
    assert sum(line.startswith("  [ok]    handshake: agent 3.") for line in lines) == 2
    assert sum(line.startswith(("db: ", "ssh: ")) for line in lines) == 2
    assert "cure" not in out


def test_what_is_broken_has_its_cure_below_it(home, theatre, capsys):  # noqa: F811 - the way of pytest
    theatre.aws.set_faults("refuse-dial")
    code, out, _ = call(capsys, "doctor", "db", "-c", write(home, theatre))
    lines = out.splitlines()
    assert code == 1
    at = next(i for i, line in enumerate(lines) if line.startswith("  [fail]  dest"))
    assert lines[at + 1].startswith("          cure: check that the destination")
    skipped = "  [skip]  round trip to throughput: not reached: failed at destination"
    assert lines[at + 2 :] == [skipped]
    assert lines[0].endswith(", 1 of 2 tunnels")
    assert not any(line.startswith("ssh: ") for line in lines)


def test_a_daemon_without_credentials_is_a_broken_hop_of_its_own(home, theatre, capsys):  # noqa: F811 - the way of pytest
    path = write(home, theatre)
    broken = tunnel_document(state="needs_login", reason="no keys", advice="restart it")
    with serving(Household(document(broken, pid=8, config=str(path))), path):
        code, out, _ = call(capsys, "doctor", "-c", path)
    lines = out.splitlines()
    at = next(i for i, line in enumerate(lines) if line.startswith("  [fail]"))
    assert (code, out.count("[fail]")) == (1, 1)
    assert lines[at].startswith("  [fail]  daemon: the running daemon (pid 8) has no")
    assert lines[at + 1] == "          cure: restart it"
    assert lines[at + 2].startswith("ssh: ")


def test_a_single_hop_that_is_not_reached_is_named(capsys):
    lines = _Lines()
    why = f"{NOT_REACHED}: failed at round trip"
    lines.tell(Finding("throughput", Verdict.SKIP, why))
    lines.end()
    lines.end()
    out = "  [skip]  throughput: not reached: failed at round trip\n"
    assert capsys.readouterr().out == out


def test_an_address_that_is_taken_does_not_hide_what_comes_after_it(
    home,
    theatre,  # noqa: F811 - the way of pytest
    capsys,
):
    with socket.create_server(("127.0.0.1", 0)) as holder:
        address = f"127.0.0.1:{holder.getsockname()[1]}"
        path = write(home, theatre, listen=address)
        code, out, _ = call(capsys, "doctor", "db", "-c", path)
    lines = out.splitlines()
    assert code == 1
    assert lines[2].startswith(f"  [fail]  listen: cannot listen on {address}: ")
    assert lines[3].startswith("          cure: ")
    assert lines[-1].startswith("  [ok]    throughput: ")


def test_json_is_one_document(home, theatre, capsys):  # noqa: F811 - the way of pytest
    theatre.aws.set_faults("refuse-dial")
    code, out, _ = call(capsys, "doctor", "--json", "-c", write(home, theatre))
    document = json.loads(out)
    assert (code, document["ok"]) == (1, False)
    assert list(document["tunnels"]) == ["db", "ssh"]
    found = document["tunnels"]["db"]
    (broken,) = [finding for finding in found if finding["verdict"] == "fail"]
    assert broken.keys() == {"hop", "verdict", "text", "cure"}
    assert broken["hop"] == "destination"


def test_disabled_tunnels_are_examined_if_they_are_named(home, theatre, capsys):  # noqa: F811 - the way of pytest
    path = write(home, theatre)
    other = home / "other.toml"
    other.write_text(tunnel("old", port=theatre.port, enabled=False))
    path.write_text('include = "other.toml"\n' + path.read_text())
    code, out, _ = call(capsys, "doctor", "-c", path)
    assert code == 0
    assert f"config: {path} and 1 included file, 2 of 3 tunnels" in out.splitlines()[0]
    assert "old: " not in out
    code, out, _ = call(capsys, "doctor", "-c", path, "old")
    assert (code, "\nold: " in out) == (0, True)


def test_a_broken_configuration_is_the_first_hop(home, capsys):
    path = home / "config.toml"
    path.write_text("[tunnels.db]\nlisten = 1\n")
    code, out, _ = call(capsys, "doctor", "-c", path)
    assert code == 1
    assert out.startswith(f"  [fail]  config: {path}:1: tunnels.db.")
    code, out, _ = call(capsys, "doctor", "--json", "-c", path)
    document = json.loads(out)
    assert (code, document["tunnels"]) == (1, {})
    assert document["findings"][0]["verdict"] == "fail"


def test_without_a_file_the_cure_is_to_write_one(home, capsys):
    path = home / "none.toml"
    for words in ((), ("-c", path)):
        code, out, _ = call(capsys, "doctor", *words)
        failed, cure = out.splitlines()
        assert (code, "init" in failed) == (1, False)
        assert cure.strip().startswith("cure: write one")
    assert cure.strip() == f"cure: write one: ssmtunneld init -c {path}"


def test_a_tunnel_that_does_not_exist_is_wrong_usage(home, capsys):
    path = home / "config.toml"
    path.write_text(tunnel("db", listen=1, port=1))
    code, _, err = call(capsys, "doctor", "dbx", "-c", path)
    assert (code, "did you mean db?" in err) == (2, True)
