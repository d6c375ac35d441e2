"""Every hop that the doctor prints is broken once, by real things, and named.

The command is a process of its own, whose environment and network are what is broken.
``BREAKS`` is the list: a hop that is not in it fails the first test.
"""

import contextlib
import http.server
import json
import os
import socket
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from ssmtunneld.doctor.report import HOPS
from ssmtunneld.emulator.settings import EmulatorSettings, Pace
from ssmtunneld.testing import EmulatorThread
from tests.aws.stub import Reply, Stub
from tests.emulator.test_server import certificate  # noqa: F401 - this is a fixture
from tests.integration.world import TARGET, tunnel
from tests.interop.programs import environment
from tests.support.ports import free_port

pytestmark = pytest.mark.integration
NAME = "db.example.internal"
_BUNDLES = ("AWS_CA_BUNDLE", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE")


class Ward:
    """Everything that a test can break before it calls the doctor."""

    def __init__(self, folder, certificate):  # noqa: F811 - the way of pytest
        self.folder = folder
        self.certificate = certificate
        self.emulator = {"host_aliases": {NAME: "127.0.0.1"}}
        self.faults = ()
        self.environ = {}
        self.settings = {"host": NAME}
        self.text = None

    def call(self, *command):
        """Run a command on the tunnel ``db``; return its exit code and its document."""
        chosen = EmulatorSettings(pace=Pace.NONE, **self.emulator)
        with (
            EmulatorThread(chosen) as aws,
            socket.create_server(("127.0.0.1", 0)) as destination,
        ):
            aws.set_faults(*self.faults)
            port = destination.getsockname()[1]
            text = self.text or tunnel("db", port=port, **self.settings)
            path = self.folder / "config.toml"
            path.write_text(text)
            environ = environment(**{**aws.environment, **self.environ})
            for name in list(environ):
                lost = environ[name] is None or name in _BUNDLES
                if lost or (
                    name.upper().endswith("_PROXY") and name not in self.environ
                ):
                    del environ[name]
            done = subprocess.run(
                [sys.executable, "-m", "ssmtunneld", *command, "-c", str(path)],
                env=environ,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=200,
                check=False,
            )
            assert not done.stderr, done.stderr
            ended = {session["status"] for session in aws.sessions()}
            assert ended <= {"Terminated"}
        return done.returncode, json.loads(done.stdout)


@contextlib.contextmanager
def false_time(ahead):
    """Serve an endpoint whose clock is wrong; yield its URL."""

    class Wrong(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()

        def date_time_string(self, timestamp=None):
            return format_datetime(datetime.now(UTC) + ahead, usegmt=True)

        def log_message(self, *args):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Wrong) as server:
        thread = threading.Thread(
            target=server.serve_forever, kwargs={"poll_interval": 0.01}
        )
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@contextlib.contextmanager
def answering(operation, reply):
    """Serve an endpoint that answers one operation; yield its URL."""
    stub = Stub()
    stub.answer(operation, reply)
    try:
        yield stub.url
    finally:
        stub.close()


def break_config(ward, stack):
    ward.text = "[tunnels.db]\nlisten = 5432\ntarget = 'bastion'\nport = 1\n"
    return "tunnels.db.target", "correct the file"


def break_credentials(ward, stack):
    ward.environ = {"AWS_ACCESS_KEY_ID": None, "AWS_SECRET_ACCESS_KEY": None}
    return "there are no AWS credentials", "log in"


def break_region(ward, stack):
    ward.environ = {"AWS_REGION": None, "AWS_DEFAULT_REGION": None}
    return "NoRegionError", "region"


def break_proxy(ward, stack):
    # A port that answers, and is no proxy: it refuses to CONNECT.
    url = stack.enter_context(false_time(timedelta()))
    ward.environ = {"HTTPS_PROXY": url}
    ward.settings["endpoint_url"] = "https://ssm.example.internal"
    return "cannot connect to ssm.example.internal:443", "HTTPS_PROXY"


def break_dns(ward, stack):
    ward.settings["ssmmessages_endpoint"] = "ssmmessages.example.invalid"
    return "ssmmessages.example.invalid has no address", "private DNS"


def break_tcp(ward, stack):
    ward.settings["ssmmessages_endpoint"] = f"127.0.0.1:{free_port()}"
    return "Connection refused", "VPC endpoint"


def break_tls(ward, stack):
    cert, key = ward.certificate
    ward.emulator |= {"tls_certificate": cert, "tls_key": key}
    return "is not trusted", "AWS_CA_BUNDLE"


def break_clock(ward, stack):
    ward.settings["endpoint_url"] = stack.enter_context(
        false_time(timedelta(minutes=10))
    )
    return "s behind AWS's", "NTP"


def break_identity(ward, stack):
    text = (
        "<ErrorResponse><Error><Type>Sender</Type><Code>InvalidClientTokenId</Code>"
        "<Message>The security token is invalid</Message></Error></ErrorResponse>"
    )
    reply = Reply(403, text)
    url = stack.enter_context(answering("GetCallerIdentity", reply))
    ward.environ = {"AWS_ENDPOINT_URL_STS": url}
    return "InvalidClientTokenId", "new keys"


def break_target(ward, stack):
    ward.faults = [f"offline={TARGET}"]
    return f"{TARGET} is not online", "SSM agent"


def break_agent(ward, stack):
    ward.emulator["agent_version"] = "3.1.1000.0"
    return "agent 3.1.1000.0 is too old for a remote host", "3.1.1374.0 or newer"


def break_permission(ward, stack):
    ward.faults = ["start-error=AccessDenied"]
    return "AccessDenied", "docs/iam.md#named-instances"


def break_upgrade(ward, stack):
    ward.faults = ["upgrade-error=403"]
    return "403", ""


def break_handshake(ward, stack):
    ward.faults = ["handshake-stall"]
    return "no message from the agent within 15 s", "restart or update the SSM agent"


def break_destination(ward, stack):
    ward.faults = ["dns-failure"]
    return "could not connect to ", "security group"


def break_round_trip(ward, stack):
    ward.faults = ["down:lose-acks=1"]
    return "acknowledged nothing within 15 s", "restart or update the SSM agent"


def break_throughput(ward, stack):
    ward.faults = ["up:drop=0.35", "up:delay=200ms", "seed=7"]
    return "messages sent more than once", "MTU"


BREAKS = {
    "config": break_config,
    "credentials": break_credentials,
    "region": break_region,
    "proxy": break_proxy,
    "dns": break_dns,
    "tcp": break_tcp,
    "tls": break_tls,
    "clock": break_clock,
    "identity": break_identity,
    "target": break_target,
    "agent": break_agent,
    "permission": break_permission,
    "upgrade": break_upgrade,
    "handshake": break_handshake,
    "destination": break_destination,
    "round trip": break_round_trip,
    "throughput": break_throughput,
}
ONLY_SLOW = {"throughput"}
"""Broken here so that it works badly; tests/doctor has how it fails."""


@pytest.fixture
def ward(tmp_path, certificate):  # noqa: F811 - the way of pytest
    return Ward(tmp_path, certificate)


def test_every_hop_that_is_printed_is_broken_below():
    assert list(BREAKS) == ["config", *HOPS]


def findings(document):
    return document["findings"] + document["tunnels"].get("db", [])


@pytest.mark.parametrize("hop", BREAKS)
def test_a_hop_that_is_broken_is_named_with_its_cure(ward, hop):
    with contextlib.ExitStack() as stack:
        text, cure = BREAKS[hop](ward, stack)
        code, document = ward.call("doctor", "--json")
    verdict = "warn" if hop in ONLY_SLOW else "fail"
    found = findings(document)
    (named,) = [f for f in found if f["verdict"] == verdict]
    assert (named["hop"], document["ok"]) == (hop, verdict == "warn")
    assert text in named["text"]
    assert named["cure"]
    assert cure in named["cure"]
    behind = found[found.index(named) + 1 :]
    assert {finding["verdict"] for finding in behind} <= {"skip"}
    assert code == (0 if hop in ONLY_SLOW else 1)


def test_nothing_is_broken_when_nothing_is(ward):
    code, document = ward.call("doctor", "--json")
    assert (code, document["ok"]) == (0, True)
    assert {f["verdict"] for f in findings(document)} == {"ok", "skip"}
    words = json.dumps(document)
    assert os.environ.get("AWS_SECRET_ACCESS_KEY", "emulator-secret") not in words


@pytest.mark.parametrize("hop", ["target", "permission", "destination"])
def test_the_short_form_names_the_same_hop(ward, hop):
    with contextlib.ExitStack() as stack:
        text, cure = BREAKS[hop](ward, stack)
        code, document = ward.call("check", "--live", "--json")
    broken = document["tunnels"]["db"]["broken"]
    assert (code, broken["hop"]) == (1, hop)
    assert text in broken["text"]
    assert cure in broken["cure"]
