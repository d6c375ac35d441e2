"""``ssmtunneld check`` lists the tunnels of a file, or what is wrong with it."""

import pytest

from ssmtunneld.cli.main import main
from tests.integration.world import TARGET, tunnel


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
        f"  ssh: 127.0.0.1:2222 -> {TARGET} -> localhost:22",
        f"  db: localhost:5432, unix:/run/db -> {TARGET} -> o.x:1",
        f"  own: [::1]:1 -> mi-{'0' * 17} -> localhost",
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
    words = f"ssmtunneld: {tmp_path}/none.toml: cannot be read: "
    assert (code, err) == (2, [words + "No such file or directory"])
