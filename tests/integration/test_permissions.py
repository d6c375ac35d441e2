"""Errors on missing permissions: AWS's own words, with a reference to the policy."""

import contextlib
import json
import socket
import subprocess
import sys

import pytest

from ssmtunneld.aws.api.permissions import section as address
from ssmtunneld.emulator.settings import EmulatorSettings, Pace
from ssmtunneld.testing import EmulatorThread
from tests.aws.test_iam import INSTANCE, REMOTE, section, without
from tests.integration.processes import launch, lines_of
from tests.integration.world import configuration, tunnel
from tests.interop.programs import environment
from tests.support.guard import guarding

pytestmark = pytest.mark.integration
NAME = "db.example.internal"


class Checkpoint:
    """An emulator behind a guard, and a configuration that leads there."""

    def __init__(self, aws, guard, path):
        self.aws = aws
        self.guard = guard
        self.path = path

    def ask(self, *command):
        """Run a command; return its exit code and what it says."""
        done = subprocess.run(
            [sys.executable, "-m", "ssmtunneld", *command, "-c", str(self.path)],
            env=environment(**self.environ),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        return done.returncode, done.stdout

    @property
    def environ(self):
        home = str(self.path.parent)
        return {**self.aws.environment, "HOME": home, "XDG_STATE_HOME": home}

    @contextlib.contextmanager
    def daemon(self):
        options = ("--log-format", "json")
        program = launch("run", "-c", self.path, *options, **self.environ)
        try:
            yield program
        finally:
            program.kill()


@pytest.fixture
def checkpoint(tmp_path):
    """Return a function that begins with these statements."""
    with contextlib.ExitStack() as stack:

        def begin(statements):
            settings = EmulatorSettings(
                pace=Pace.NONE, host_aliases={NAME: "127.0.0.1"}
            )
            aws = stack.enter_context(EmulatorThread(settings))
            destination = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
            # The ids of the emulator's sessions begin with who has started them.
            me = {"aws:userid": "dev@example.com"}
            gate = guarding(aws.endpoint_url, statements, me)
            guard = stack.enter_context(gate)
            path = tmp_path / "config.toml"
            port = destination.getsockname()[1]
            way = {"target": INSTANCE, "host": NAME, "port": port}
            path.write_text(configuration(guard.url, tunnel("db", **way)))
            return Checkpoint(aws, guard, path)

        yield begin


ALLOW = "allow {action} on {resource} (see {section})"
DOCUMENT_ARN = "arn:aws:ssm:*:*:document/AWS-StartPortForwardingSessionToRemoteHost"
TARGET_ARN = f"arn:aws:ec2:eu-west-1:111122223333:instance/{INSTANCE}"
SAID = "is not authorized to perform: ssm:StartSession on resource: "


def strand(place, program):
    """Leave the daemon without a websocket, on which a session ends without the API."""
    place.aws.add_faults("upgrade-error=500")
    place.aws.cut_websockets()
    program.wait_for(r"link\.failed")


def test_the_documented_policy_is_enough_and_nothing_of_it_too_much(checkpoint):
    policy = section("Named instances")
    place = checkpoint(policy)
    with place.daemon() as program:
        program.wait_for(r"daemon\.ready")
        place.aws.cut_websockets()
        program.wait_for(r"session\.resumed")
        strand(place, program)
        assert program.stop() == 0
    assert not place.guard.denied
    used = place.guard.allowed | {"ssmmessages:OpenDataChannel"}
    given = {
        a
        for s in policy
        for a in ([s["Action"]] if isinstance(s["Action"], str) else s["Action"])
    }
    assert used == given


def test_check_live_is_content_with_it_too(checkpoint):
    place = checkpoint(section("Named instances"))
    assert place.ask("check", "--live")[0] == 0
    # Whether the target is online is asked for, and not insisted on.
    assert place.guard.denied == {"ssm:DescribeInstanceInformation"}


def test_check_live_names_action_resource_and_policy(checkpoint):
    place = checkpoint(without(section("Named instances"), "ssm:StartSession"))
    code, out = place.ask("check", "--live", "--json")
    broken = json.loads(out)["tunnels"]["db"]["broken"]
    assert (code, broken["hop"]) == (1, "permission")
    assert SAID + TARGET_ARN in broken["text"]
    assert broken["cure"] == ALLOW.format(
        action="ssm:StartSession",
        resource=f"{TARGET_ARN} and {DOCUMENT_ARN}",
        section=address("Named instances"),
    )


def test_a_document_that_is_not_allowed_is_named_as_the_resource(checkpoint):
    policy = section("Named instances")
    start = policy[0]
    kept = [r for r in start["Resource"] if not r.endswith(REMOTE)]
    place = checkpoint([{**start, "Resource": kept}, *policy[1:]])
    _, out = place.ask("check", "--live")
    assert f"allow ssm:StartSession on arn:aws:ssm:eu-west-1::document/{REMOTE}" in out


def test_status_of_a_daemon_names_them_too_and_it_heals(checkpoint):
    policy = section("Named instances")
    place = checkpoint(without(policy, "ssm:StartSession"))
    with place.daemon() as program:
        program.wait_for(r"not authorized to perform")
        program.wait_for(r"control\.bound")
        _, out = place.ask("status", "--json")
        (tunnel,) = json.loads(out)["tunnels"]
        assert tunnel["usable"] is False
        assert SAID + TARGET_ARN in tunnel["reason"]
        assert tunnel["advice"] == ALLOW.format(
            action="ssm:StartSession",
            resource=f"{TARGET_ARN} and {DOCUMENT_ARN}",
            section=address("Named instances"),
        )
        assert address("Named instances") in "".join(place.ask("status")[1].split())
        place.guard.statements = policy
        code, _ = place.ask("wait", "--timeout", "90s")
        assert code == 0, program.log()
        assert program.stop() == 0


@pytest.mark.parametrize("action", ["ssm:ResumeSession", "ssm:TerminateSession"])
def test_what_a_session_lacks_later_is_in_the_log(checkpoint, action):
    place = checkpoint(without(section("Named instances"), action))
    with place.daemon() as program:
        program.wait_for(r"daemon\.ready")
        if action == "ssm:ResumeSession":
            place.aws.cut_websockets()
            program.wait_for(r"not authorized to perform: ssm:ResumeSession")
        else:
            strand(place, program)
        assert program.stop() == 0
        words = json.dumps(lines_of(program))
    assert place.guard.denied == {action}
    assert f"not authorized to perform: {action} on resource: arn:aws:ssm:" in words
