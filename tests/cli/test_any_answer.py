"""Commands show one line of whatever AWS answers, and never a traceback."""

import os
import subprocess
import sys

import pytest

from tests.aws.stub import REGION, Reply, Stub

TARGET = "i-0182d91e85d69cf00"
OPERATIONS = (
    "StartSession",
    "DescribeSessions",
    "DescribeInstanceInformation",
    "TerminateSession",
)


@pytest.fixture
def command(tmp_path):
    stub = Stub()
    config = tmp_path / "config.toml"
    config.write_text(
        f'[tunnels.t]\nlisten = "127.0.0.1:0"\ntarget = "{TARGET}"\nport = 22\n'
        f'region = "{REGION}"\nendpoint_url = "{stub.url}"\n'
    )
    environ = {k: v for k, v in os.environ.items() if not k.startswith("AWS_")}
    environ |= {
        "HOME": str(tmp_path),
        "XDG_RUNTIME_DIR": str(tmp_path),
        "AWS_ACCESS_KEY_ID": "AKIA0000000000000000",
        "AWS_SECRET_ACCESS_KEY": "canary" + "s" * 34,
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_REGION": REGION,
        "AWS_ENDPOINT_URL_SSM": stub.url,
        "NO_PROXY": "*",
    }

    def run(reply, *words):
        for operation in OPERATIONS:
            stub.answer(operation, reply)
        return subprocess.run(
            [sys.executable, "-m", "ssmtunneld", *words, "--config", str(config)],
            capture_output=True,
            text=True,
            env=environ,
            input="",
            timeout=60,
            check=False,
        )

    yield run
    stub.close()


@pytest.mark.parametrize(
    "words",
    [
        ("sessions",),
        ("doctor", "t"),
        ("check", "--live"),
        ("proxy", TARGET, "22", "--timeout", "3s"),
    ],
    ids=lambda words: words[0],
)
@pytest.mark.parametrize("reply", [Reply(200, "null"), Reply(400, "[1]")])
def test_an_answer_that_makes_no_sense_is_one_line(command, words, reply):
    ended = command(reply, *words)
    told = ended.stdout + ended.stderr
    assert ended.returncode in {1, 4, 255}  # the last one is what ssh expects
    assert "Traceback" not in told
    assert "canary" not in told
    assert "UnusableAnswer" in told
    assert "find out what answers there" in told
