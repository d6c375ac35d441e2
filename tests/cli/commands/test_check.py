"""``ssmtunneld check`` lists the tunnels of a file, or what is wrong with it."""

import json
import re
import socket

import pytest

from ssmtunneld.cli.main import main
from ssmtunneld.observe import logs
from tests.cli.household import (
    Household,
    document,
    serving,
    tunnel_document,
    use_home,
)
from tests.doctor.conftest import (  # noqa: F401 - these are fixtures
    NAME,
    aws_files,
    surgery,
    theatre,
)
from tests.integration.world import TARGET, tunnel


@pytest.fixture(autouse=True)
def _quiet(_logging):
    """Keep the emulator, which runs in this process, off the standard output."""
    logs.configure("error", "auto")


@pytest.fixture
def check(tmp_path, monkeypatch, capsys):
    """Return a function that checks a text: exit code, lines on both streams."""
    path = tmp_path / "config.toml"

    def run(text, *options):
        path.write_text(text)
        monkeypatch.setenv("SSMTUNNELD_CONFIG", str(path))
        with pytest.raises(SystemExit) as caught:
            main(["check", *options])
        out, err = capsys.readouterr()
        return caught.value.code, out.splitlines(), err.splitlines()

    run.path = path
    return run


def test_every_tunnel_is_listed_with_where_it_leads(check):
    text = "\n".join(
        [
            tunnel("ssh", listen=2222, port=22),
            tunnel("db", listen=["localhost:5432", "unix:/run/db"], host="o.x", port=1),
            tunnel("own", listen="[::1]:1", document="Ours", target="mi-" + "0" * 17),
        ]
    )
    code, out, err = check(text)
    assert (code, err) == (0, [])
    assert out == [
        f"{check.path}: 3 tunnels",
        f"  ssh: localhost:2222 -> {TARGET} -> localhost:22",
        f"  db: localhost:5432, unix:/run/db -> {TARGET} -> o.x:1",
        f"  own: [::1]:1 -> mi-{'0' * 17} -> as Ours says",
    ]


def test_every_problem_is_one_line_with_its_place(check):
    text = "[tunnels.db]\nlisten = 5432\ntarget = 'bastion'\nport = 99999\n"
    code, out, err = check(text, "--config", str(check.path))
    assert (code, out) == (2, [])
    assert [line.split(": ")[:3] for line in err] == [
        ["ssmtunneld", f"{check.path}:3", "tunnels.db.target"],
        ["ssmtunneld", f"{check.path}:4", "tunnels.db.port"],
    ]


def test_what_is_no_toml_is_one_problem(check):
    code, out, err = check("[tunnels.db\n")
    assert (code, out, len(err)) == (2, [], 1)
    assert err[0].startswith(f"ssmtunneld: {check.path}:1:12: is not TOML: ")


def test_a_file_that_is_not_there_is_named(check, tmp_path):
    code, _, err = check("", "-c", str(tmp_path / "none.toml"))
    assert (code, err) == (
        2,
        [
            f"ssmtunneld: {tmp_path}/none.toml: cannot be read: No such file or "
            f"directory; write one: ssmtunneld init -c {tmp_path}/none.toml"
        ],
    )


def test_only_the_tunnels_that_are_named_are_listed(check):
    text = tunnel("ssh", listen=1, port=1) + tunnel("db", listen=2, port=2)
    code, out, _ = check(text, "db")
    assert (code, len(out)) == (0, 2)
    assert out[1].startswith("  db: ")
    code, _, err = check(text, "dbx")
    assert (code, "did you mean db?" in err[0]) == (2, True)


def test_json_is_one_document(check):
    code, out, _ = check(tunnel("db", listen=2222, port=22), "--json")
    assert code == 0
    assert json.loads("\n".join(out)) == {
        "ok": True,
        "config": str(check.path),
        "included": [],
        "problems": [],
        "warnings": [],
        "tunnels": {
            "db": {
                "listen": ["localhost:2222"],
                "target": TARGET,
                "destination": "localhost:22",
                "file": str(check.path),
                "enabled": True,
                "groups": [],
            }
        },
    }


@pytest.fixture
def team(check):
    """The function, and a folder whose files it includes."""
    folder = check.path.parent / "conf.d"
    folder.mkdir()
    (folder / "a.toml").write_text(tunnel("a", listen=2, port=22, groups=["x"]))
    (folder / "b.toml").write_text(tunnel("b", listen=2, port=23, enabled=False))
    text = 'include = ["conf.d/*.toml", "none/*.toml"]\n'

    def run(*options):
        return check(text + tunnel("main", listen=1, port=1), *options)

    run.folder, run.path = folder, check.path
    return run


def test_tunnels_of_other_files_and_disabled_ones_are_listed_as_such(team):
    code, out, err = team()
    assert (code, err) == (0, ["warning: include: none/*.toml matches no file"])
    assert out == [
        f"{team.path} and 2 included files: 3 tunnels, 1 disabled",
        f"  main: localhost:1 -> {TARGET} -> localhost:1",
        f"  a: localhost:2 -> {TARGET} -> localhost:22 (conf.d/a.toml)",
        f"  b: localhost:2 -> {TARGET} -> localhost:23 (disabled, conf.d/b.toml)",
    ]
    document = json.loads("\n".join(team("--json")[1]))
    assert document["included"] == [f"{team.folder}/{n}.toml" for n in "ab"]
    assert document["warnings"] == ["include: none/*.toml matches no file"]
    found = {n: (t["enabled"], t["groups"]) for n, t in document["tunnels"].items()}
    assert found == {"main": (True, []), "a": (True, ["x"]), "b": (False, [])}
    assert document["tunnels"]["b"]["file"] == f"{team.folder}/b.toml"


def test_a_problem_of_an_included_file_is_one_line_with_its_place(team):
    (team.folder / "a.toml").write_text("[tunnels.a]\nprot = 1\n")
    code, out, err = team()
    assert (code, out) == (2, [])
    assert f"ssmtunneld: {team.folder}/a.toml:1: tunnels.a.listen: is required" in err
    assert f"{team.folder}/a.toml:2: tunnels.a.prot: unknown key" in err[-1]


def test_live_leaves_disabled_tunnels_alone_unless_they_are_named(check, theatre):  # noqa: F811 - the way of pytest
    text = two(theatre) + "\n" + tunnel("old", port=theatre.port, enabled=False)
    code, out, _ = check(text, "--live")
    assert (code, out[0]) == (0, f"{check.path}: 3 tunnels, 1 disabled")
    assert out[1:] == ["  [ok]    db", "  [ok]    ssh"]
    assert check(text, "--live", "old")[1][1:] == ["  [ok]    old"]


def test_what_is_probably_a_slip_is_a_warning(check):
    text = tunnel("db", listen=2222, port=22, region="eu-wst-1")
    code, out, err = check(text)
    assert (code, len(out)) == (0, 2)
    line = "tunnels.db.region: unknown region eu-wst-1 (did you mean eu-west-1?)"
    assert err == [f"warning: {line}"]
    code, out, err = check(text, "--json")
    document = json.loads("\n".join(out))
    assert (code, err, document["ok"]) == (0, [], True)
    assert document["warnings"] == [line]


@pytest.mark.parametrize("options", [(), ("--live",)])
def test_problems_are_in_the_document_too(check, options):
    text = "[tunnels.db]\nlisten = 5432\ntarget = 'bastion'\nport = 1\n"
    code, out, err = check(text, "--json", *options)
    document = json.loads("\n".join(out))
    assert (code, err, document["ok"]) == (2, [], False)
    assert document["tunnels"] == {}
    assert "tunnels.db.target" in document["problems"][0]


def two(theatre, **settings):  # noqa: F811 - the way of pytest
    way = {"host": NAME, "port": theatre.port}
    return tunnel("db", **way, **settings) + "\n" + tunnel("ssh", port=theatre.port)


def test_live_says_of_each_tunnel_that_it_works(check, theatre):  # noqa: F811 - the way of pytest
    code, out, err = check(two(theatre), "--live")
    assert (code, err) == (0, [])
    assert out == [f"{check.path}: 2 tunnels", "  [ok]    db", "  [ok]    ssh"]


def test_live_names_the_first_hop_that_is_broken_and_its_cure(check, theatre):  # noqa: F811 - the way of pytest
    theatre.aws.set_faults("refuse-dial")
    code, out, _ = check(two(theatre), "--live", "db")
    assert (code, len(out)) == (1, 2)
    assert out[1].startswith("  [fail]  db: destination: the target could not connect")
    assert "; check that the destination is up" in out[1]


def test_live_names_a_local_address_that_is_taken(check, theatre, tmp_path):  # noqa: F811 - the way of pytest
    way = {"host": NAME, "port": theatre.port}
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = holder.getsockname()[1]
        busy = tunnel("busy", listen=f"127.0.0.1:{port}", **way)
        (tmp_path / "file").touch()
        odd = tunnel("odd", listen=f"unix:{tmp_path}/file", **way)
        text = f"{busy}\n{odd}\n{tunnel('db', **way)}"
        code, out, _ = check(text, "--live")
    assert code == 1
    assert out[1].startswith(
        f"  [fail]  busy: listen: cannot listen on 127.0.0.1:{port}: "
    )
    assert re.search("; (stop .* or )?choose another address$", out[1])
    assert out[2].startswith("  [fail]  odd: listen: ")
    assert out[3] == "  [ok]    db"
    assert (tmp_path / "file").exists()


def test_live_beside_the_files_daemon_does_not_try_to_listen(
    check,
    theatre,  # noqa: F811 - the way of pytest
    monkeypatch,
    tmp_path,
):
    use_home(monkeypatch, tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as holder:
        address = f"127.0.0.1:{holder.getsockname()[1]}"
        text = tunnel("db", listen=address, host=NAME, port=theatre.port)
        its_own = document(tunnel_document(), config=str(check.path.resolve()))
        with serving(Household(its_own), check.path):
            code, out, _ = check(text, "--live")
    assert (code, out[1:]) == (0, ["  [ok]    db"])


def test_live_asks_the_files_daemon_whether_it_listens(
    check,
    theatre,  # noqa: F811 - the way of pytest
    monkeypatch,
    tmp_path,
):
    use_home(monkeypatch, tmp_path)
    text = tunnel("db", host=NAME, port=theatre.port)
    taken = {"state": "unbound", "reason": "cannot listen: taken", "advice": "stop it"}
    its_own = document(tunnel_document(**taken), config=str(check.path.resolve()))
    with serving(Household(its_own), check.path):
        code, out, _ = check(text, "--live")
    line = "  [fail]  db: listen: cannot listen: taken; stop it"
    assert (code, out[1:]) == (1, [line])


def test_live_tells_what_is_slow_and_is_content(check, theatre):  # noqa: F811 - the way of pytest
    theatre.aws.set_faults("delay=300ms")
    code, out, _ = check(two(theatre), "--live", "ssh")
    assert code == 0
    assert out[1].startswith("  [warn]  ssh: round trip: ")


def test_lives_document_has_what_is_broken(check, theatre):  # noqa: F811 - the way of pytest
    text = two(theatre, profile="nobody")
    code, out, _ = check(text, "--live", "--json")
    document = json.loads("\n".join(out))
    assert (code, document["ok"]) == (1, False)
    found = document["tunnels"]
    assert list(found) == ["db", "ssh"]
    assert found["db"]["broken"]["hop"] == "credentials"
    assert found["db"]["broken"].keys() == {"hop", "verdict", "text", "cure"}
    assert found["ssh"] == {
        "listen": ["127.0.0.1:0"],
        "target": TARGET,
        "destination": f"localhost:{theatre.port}",
        "file": str(check.path),
        "enabled": True,
        "groups": [],
        "ok": True,
        "broken": None,
        "warnings": [],
    }


def test_live_ends_in_time(check, theatre):  # noqa: F811 - the way of pytest
    theatre.aws.set_faults("handshake-stall")
    code, out, _ = check(two(theatre), "--live", "--timeout", "3s", "db")
    assert code == 1
    assert "not finished within 3 s; raise --timeout" in out[1]
