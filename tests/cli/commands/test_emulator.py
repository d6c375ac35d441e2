"""``ssmtunneld emulator`` as a process, with real signals."""

import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request

import pytest
from click.testing import CliRunner

from ssmtunneld.cli.commands.emulator import emulator
from ssmtunneld.emulator.settings import DEFAULT_AGENT_VERSION
from ssmtunneld.errors import AddressInUse, ConfigError

COMMAND = [
    sys.executable,
    "-c",
    "from ssmtunneld.cli.commands.emulator import emulator; emulator()",
]


def launch(*arguments, **environ):
    return subprocess.Popen(
        [*COMMAND, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **environ},
    )


def test_the_agent_is_as_old_as_everywhere_else():
    option = next(o for o in emulator.params if o.name == "agent_version")
    assert option.default == DEFAULT_AGENT_VERSION


@pytest.mark.parametrize(
    ("arguments", "approval", "duration"),
    [
        ((), "auto", 3600.0),
        (("--approval=manual", "--access-duration=5m"), "manual", 300.0),
        (("--approval=reject",), "reject", 3600.0),
        (("--approval=20",), 20.0, 3600.0),
        (("--approval=2m",), 120.0, 3600.0),
    ],
)
def test_what_becomes_of_access_requests_can_be_chosen(
    monkeypatch, arguments, approval, duration
):
    chosen = []

    async def serve(settings):
        chosen.append(settings)

    monkeypatch.setattr("ssmtunneld.cli.commands.emulator._serve", serve)
    assert CliRunner().invoke(emulator, arguments).exit_code == 0
    assert (chosen[0].approval, chosen[0].access_duration) == (approval, duration)


@pytest.mark.parametrize("option", ["--approval=perhaps", "--access-duration=long"])
def test_what_is_no_approval_is_said(option):
    found = CliRunner().invoke(emulator, [option])
    assert found.exit_code == 2
    assert "is not a duration" in found.output


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_says_where_it_listens_and_ends_in_order(number):
    with launch(
        "--pace=none",
        "--fault=drop=0.1",
        "--fault=seed=3",
        "--offline=i-01234567",
        "--host-alias=db.internal=127.0.0.1",
        "--identity=AKIABOB=arn:aws:iam::123456789012:user/bob",
        "--idle-timeout=5m",
        "--max-duration=1h",
        "--require-signature",
        AWS_ACCESS_KEY_ID="AKID",
        AWS_SECRET_ACCESS_KEY="secret-canary",
    ) as process:
        line = process.stdout.readline()
        assert line.startswith("emulator listening on http://127.0.0.1:")
        with urllib.request.urlopen(f"{line.split()[-1]}/_emulator/faults") as answer:
            faults = json.load(answer)
        assert faults == {
            "specs": ["drop=0.1", "seed=3"],
            "seed": 3,
            "offline": ["i-01234567"],
        }
        process.send_signal(number)
        rest, errors = process.communicate(timeout=20)
    assert (process.returncode, rest) == (0, "")
    assert "secret-canary" not in errors
    assert "Traceback" not in errors


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--listen", "8080"], "is not HOST:PORT"),
        (["--listen", "127.0.0.1:99999"], "is not HOST:PORT"),
        (["--idle-timeout", "soon"], "is not a duration"),
        (["--max-duration", "1d"], "is not a duration"),
        (["--host-alias", "db"], "is not NAME=VALUE"),
        (["--identity", "AKIABOB"], "is not NAME=VALUE"),
        (["--identity", "AKIABOB=bob"], "is not an ARN"),
        (["--document", "X=/nonexistent.json"], "No such file"),
        (["--document", "X=/dev/null"], "Expecting value"),
        (["--pace", "fast"], "is not one of"),
        (["--policy", "/nonexistent.json"], "No such file"),
        (["--policy", "AKIABOB=/nonexistent.json"], "No such file"),
        (["--node", "i-01234567,name"], "is not NAME=VALUE"),
        (["--node", "i-01234567,colour=red"], "is not name, ip or tag:KEY"),
    ],
)
def test_a_malformed_option_is_a_usage_error(arguments, problem):
    result = CliRunner().invoke(emulator, arguments)
    assert result.exit_code == 2
    assert problem in result.output


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--fault", "drp=1"], "no fault named 'drp'"),
        (["--agent-version", "3"], "is not like"),
        (["--listen", "192.0.2.1:0"], "is not loopback"),
        (["--path", "loss=1"], "expected delay, rate or queue"),
    ],
)
def test_what_only_the_emulator_can_check_is_a_configuration_error(arguments, problem):
    result = CliRunner().invoke(
        emulator, arguments, env={"AWS_ACCESS_KEY_ID": "", "NO_COLOR": "1"}
    )
    assert isinstance(result.exception, ConfigError)
    assert problem in str(result.exception)


def test_custom_documents_are_read_from_files(tmp_path):
    path = tmp_path / "document.json"
    path.write_text("[]")
    result = CliRunner().invoke(emulator, ["--document", f"X={path}"])
    assert "is not an object" in result.output
    path.write_text('{"sessionType": "Standard_Stream"}')
    result = CliRunner().invoke(emulator, ["--document", f"X={path}"])
    assert "document X: sessionType is not Port" in str(result.exception)


def test_an_address_that_is_taken_is_named():
    with launch("--listen=[::1]:0") as process:
        url = process.stdout.readline().split()[-1]
        assert url.startswith("http://[::1]:")
        result = CliRunner().invoke(emulator, ["--listen", url.removeprefix("http://")])
        process.terminate()
        process.communicate(timeout=20)
    assert isinstance(result.exception, AddressInUse)


def test_policies_nodes_and_the_path_are_taken_from_the_command_line(tmp_path):
    policy = tmp_path / "policy.json"
    policy.write_text(
        '{"Statement": {"Effect": "Deny", "Action": "ssm:StartSession",'
        ' "Resource": "*"}}'
    )
    arguments = [
        f"--policy=AKIABOB={policy}",
        "--node=i-0123456789abcdef0,name=web1,ip=10.0.0.7,tag:Role=web,tag:Env=test",
        "--path=delay=1ms",
        "--http-host=emulator",
    ]
    with launch(*arguments) as process:
        url = process.stdout.readline().split()[-1]
        listed = call(url, "DescribeInstanceInformation", "AKIAEVE")
        statuses = [
            call(url, "StartSession", key, Target="i-0123456789abcdef0")
            for key in ("AKIABOB", "AKIAEVE")
        ]
        process.terminate()
        process.communicate(timeout=20)
    (node,) = listed["InstanceInformationList"]
    assert (node["ComputerName"], node["IPAddress"]) == ("web1", "10.0.0.7")
    assert statuses == [400, 200]


def call(url, operation, key, **body):
    """Return an answer of the API; of StartSession, its HTTP status."""
    if operation == "StartSession":
        body["DocumentName"] = "AWS-StartSSHSession"
    request = urllib.request.Request(
        url,
        json.dumps(body).encode(),
        {
            "X-Amz-Target": f"AmazonSSM.{operation}",
            "Authorization": f"AWS4-HMAC-SHA256 Credential={key}/20260101/us-east-1/x",
        },
    )
    try:
        with urllib.request.urlopen(request) as answer:
            found = json.load(answer)
            return answer.status if operation == "StartSession" else found
    except urllib.error.HTTPError as error:
        with error:
            return error.code
