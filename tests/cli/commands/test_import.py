"""``ssmtunneld import``: what it prints, adds and says."""

import io
import sys

import pytest

from ssmtunneld.config import load_config, parse_config
from tests.cli.household import call

ID = "i-0123456789abcdef0"
SCRIPT = f"""#!/bin/sh
aws ssm start-session --profile prod --target {ID} --document-name \\
  AWS-StartPortForwardingSession --parameters portNumber=80,localPortNumber=8080
aws ssm start-session --profile prod --target {ID} --document-name \\
  AWS-StartPortForwardingSession --parameters portNumber=81,localPortNumber=8080
aws ssm start-session --target {ID}
"""


@pytest.fixture
def script(home):
    path = home / "tunnel.sh"
    path.write_text(SCRIPT)
    return path


def test_what_is_printed_is_a_file_and_what_is_lost_is_said(script, capsys):
    code, out, err = call(capsys, "import", script)
    assert code == 0
    assert out == (
        f'[defaults]\nprofile = "prod"\ntarget = "{ID}"\n\n'
        "[tunnels.port-80]\nlisten = 8080\nport = 80\n\n"
        "[tunnels.port-81]\nlisten = 8081\nport = 81\n"
    )
    assert len(parse_config(out, "x", {}).tunnels) == 2
    assert err.splitlines() == [
        f"{script}:4: port-81 listens on port 8081, because 8080 is taken",
        f"{script}:6: this is a shell, not a tunnel: see ssmtunneld ssh",
    ]


def test_a_profile_in_front_is_the_tunnels_and_no_name(home, capsys):
    path = home / "tunnels.sh"
    path.write_text(f"""tmux new -d 'AWS_PROFILE=prod aws ssm start-session \\
  --target {ID} --document-name AWS-StartPortForwardingSession \\
  --parameters portNumber=80,localPortNumber=8080 > /dev/null 2>&1 &'
""")
    code, out, err = call(capsys, "import", path)
    assert (code, err) == (0, "")
    (tunnel,) = parse_config(out, "x", {}).tunnels
    assert (tunnel.name, tunnel.profile) == ("port-80", "prod")


def test_a_variable_that_is_set_nowhere_is_for_a_person(home, monkeypatch, capsys):
    path = home / "tunnels.sh"
    path.write_text(
        "BASTION=$(terraform output -raw id)\naws ssm start-session --target $BASTION "
        "--document-name AWS-StartPortForwardingSession "
        "--parameters portNumber=80,localPortNumber=8080\n"
    )
    monkeypatch.delenv("BASTION", raising=False)
    code, _, err = call(capsys, "import", path)
    assert code == 1
    assert f"{path}:1: BASTION comes from a command, $(terraform output" in err
    monkeypatch.setenv("BASTION", ID)
    code, out, _ = call(capsys, "import", path)
    assert (code, 'target = "${BASTION}"' in out) == (0, True)


def test_standard_input_will_do(home, monkeypatch, capsys):
    stdin = io.TextIOWrapper(io.BytesIO(SCRIPT.encode()))
    monkeypatch.setattr(sys, "stdin", stdin)
    code, out, err = call(capsys, "import")
    assert (code, "[tunnels.port-80]" in out) == (0, True)
    assert err.startswith("-:4: ")


def test_they_are_added_to_a_file(script, home, capsys):
    path = home / "config.toml"
    path.write_text(f'[tunnels.port-80]\nlisten = 8080\ntarget = "{ID}"\nport = 1\n')
    code, out, _ = call(capsys, "import", script, "--add", "-c", path)
    assert (code, out) == (0, f"{path}: added port-80-2, port-81\n")
    ports = [str(t.listen[0]) for t in load_config(path, {}).tunnels]
    assert ports == ["localhost:8080", "localhost:8081", "localhost:8082"]


def test_names_and_ports_of_included_files_are_taken_too(script, home, capsys):
    path = home / "config.toml"
    path.write_text('include = "other.toml"\n')
    (home / "other.toml").write_text(
        f'[tunnels.port-80]\nlisten = 8080\ntarget = "{ID}"\nport = 1\n'
    )
    code, out, _ = call(capsys, "import", script, "--add", "-c", path)
    assert (code, out) == (0, f"{path}: added port-80-2, port-81\n")
    ports = [str(t.listen[0]) for t in load_config(path, {}).tunnels]
    assert ports == ["localhost:8081", "localhost:8082", "localhost:8080"]


def test_a_target_is_given_to_those_that_have_none(home, capsys):
    path = home / ".basti.yaml"
    target = "{customTargetHost: db, customTargetPort: 5432}"
    path.write_text(f"connections:\n  db:\n    target: {target}\n")
    code, out, err = call(capsys, "import", path)
    assert code == 1
    assert f"{path}:2: db names no target: give --target" in err
    words = ("--target", "tag:Role=bastion", "--region", "eu-west-1")
    code, out, err = call(capsys, "import", path, *words)
    assert (code, err) == (0, "")
    assert 'target = "tag:Role=bastion"' in out


def test_what_a_person_must_mend_is_said(home, capsys):
    path = home / "x"
    path.write_text(
        "aws ssm start-session --target web --document-name "
        "AWS-StartPortForwardingSession --parameters portNumber=80,localPortNumber=8080"
    )
    code, out, err = call(capsys, "import", path)
    assert (code, "[tunnels.port-80]" in out) == (1, True)
    assert "target: is not a target" in err


@pytest.mark.parametrize(
    ("text", "code", "message"),
    [
        ("hello", 2, "has nothing that could be imported"),
        (f"aws ssm start-session --target {ID}", 1, "no tunnel that could be imported"),
        ("[[tunnels", 2, "is not TOML"),
    ],
)
def test_what_cannot_be_imported_is_said(home, text, code, message, capsys):
    path = home / "x"
    path.write_text(text)
    words = ("--format", "tunneld") if "[[" in text else ()
    found, out, err = call(capsys, "import", path, *words)
    assert (found, out, message in err) == (code, "", True), err


def test_a_file_that_is_not_there_is_said(home, capsys):
    for name in (home / "none", "~no such user/none"):
        code, _, err = call(capsys, "import", name)
        assert (code, "No such file" in err) == (1, True)
