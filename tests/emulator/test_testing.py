"""The fixture for people who test their own tools."""

import os
import subprocess
import sys
import textwrap
from contextlib import closing

import boto3
import pytest
from botocore.exceptions import ClientError

from ssmtunneld.base.secret import Secret
from ssmtunneld.emulator.settings import EmulatorSettings
from ssmtunneld.errors import ConfigError
from ssmtunneld.testing import (  # noqa: F401 - fixtures are found by their names
    EmulatorThread,
    emulator_settings,
    ssm_deny,
    ssm_emulator,
    ssm_environment,
    ssm_identity,
    ssm_targets,
)
from tests.emulator.reference import FORWARDING, INSTANCE


@pytest.fixture
def emulator(monkeypatch):
    with EmulatorThread() as running:
        for name, value in running.environment.items():
            monkeypatch.setenv(name, value)
        yield running


def start_session():
    client = boto3.client("ssm")
    try:
        return client.start_session(Target=INSTANCE, DocumentName=FORWARDING)
    finally:
        client.close()


def test_boto3_needs_nothing_but_the_environment(emulator):
    grant = start_session()
    (session,) = emulator.sessions()
    assert session["id"] == grant["SessionId"]
    assert emulator.state()["faults"]["specs"] == []


def test_faults_can_be_set_from_the_test(emulator):
    emulator.set_faults("start-error=ThrottlingException*1")
    emulator.add_faults("drop=0.1")
    assert len(emulator.state()["faults"]["specs"]) == 2
    start_session()  # boto3 has tried again
    emulator.clear_faults()
    assert emulator.state()["faults"]["specs"] == []
    with pytest.raises(ConfigError):
        emulator.set_faults("drp=1")


def test_sessions_can_be_closed_and_cut_from_the_test(emulator):
    session_id = start_session()["SessionId"]
    emulator.cut_websockets()
    emulator.close_session(session_id, "closed by the test")
    (session,) = emulator.sessions()
    assert session["output"] in ("", "closed by the test")
    with pytest.raises(KeyError):
        emulator.close_session("nobody")


def test_time_passes_when_the_test_says_so(emulator):
    start_session()
    emulator.advance(5)
    assert emulator.sessions()[0]["status"] == "Connecting"
    emulator.advance(10)
    (session,) = emulator.sessions()
    assert session["status"] == "Failed"
    assert "Handshake timed out" in session["output"]
    # Who signs by the machine's clock is served as before.
    start_session()
    with closing(boto3.client("ssm")) as client:
        (new,) = client.describe_sessions(State="Active")["Sessions"]
        (old,) = client.describe_sessions(State="History")["Sessions"]
    assert (new["StartDate"] - old["StartDate"]).total_seconds() >= 15
    with pytest.raises(ValueError, match="backwards"):
        emulator.advance(-1)


def test_a_setting_that_is_wrong_is_raised_in_the_test():
    with (
        pytest.raises(ConfigError, match="is not loopback"),
        EmulatorThread(EmulatorSettings(host="192.0.2.1")),
    ):
        pass


def test_settings_of_ones_own_keep_their_keys():
    settings = EmulatorSettings(access_key="MINE", secret_key=Secret("mine"))
    with EmulatorThread(settings) as running:
        assert running.environment["AWS_ACCESS_KEY_ID"] == "MINE"
        assert running.environment["AWS_SECRET_ACCESS_KEY"] == "mine"


async def broken():
    raise ZeroDivisionError


def test_a_defect_of_the_emulator_fails_the_test_that_met_it():
    running = EmulatorThread().__enter__()
    running._call(lambda emulator: emulator._tasks.create_task(broken()))
    running._thread._thread.join()
    with pytest.raises(ExceptionGroup) as caught:
        running.__exit__()
    assert caught.group_contains(ZeroDivisionError)


def test_a_call_to_an_emulator_that_does_not_run_is_an_error():
    running = EmulatorThread()
    with pytest.raises(RuntimeError, match="ssm-emulator does not run"):
        running.sessions()
    with running:
        assert running.sessions() == []
    with pytest.raises(RuntimeError, match="ssm-emulator does not run"):
        running.advance(1)


def test_the_fixture_is_what_it_says(request):
    assert request.getfixturevalue("ssm_emulator").sessions() == []


def test_it_works_as_a_plugin_with_settings_of_ones_own(tmp_path):
    (tmp_path / "conftest.py").write_text('pytest_plugins = ["ssmtunneld.testing"]\n')
    (tmp_path / "test_mine.py").write_text(
        textwrap.dedent(
            """
            import pytest
            from ssmtunneld.emulator.settings import EmulatorSettings

            @pytest.fixture
            def emulator_settings():
                return EmulatorSettings(idle_timeout=60)

            def test_mine(ssm_emulator):
                assert ssm_emulator.endpoint_url.startswith("http://127.0.0.1:")
                assert ssm_emulator.sessions() == []
            """
        )
    )
    result = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", str(tmp_path)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "1 passed" in result.stdout, result.stdout + result.stderr


def client_of(environment, service="ssm"):
    names = {"aws_access_key_id": "AWS_ACCESS_KEY_ID"}
    names["aws_secret_access_key"] = "AWS_SECRET_ACCESS_KEY"
    names["region_name"] = "AWS_REGION"
    url = environment["AWS_ENDPOINT_URL_SSM"]
    arguments = {key: environment[name] for key, name in names.items()}
    return boto3.client(service, endpoint_url=url, **arguments)


def test_identities_are_different_people(emulator):
    with closing(client_of(emulator.identity("alice"), "sts")) as sts:
        arn = sts.get_caller_identity()["Arn"]
    assert arn == "arn:aws:iam::123456789012:user/alice"
    with closing(client_of(emulator.identity("bob"))) as ssm:
        ssm.start_session(Target=INSTANCE, DocumentName=FORWARDING)
        (entry,) = ssm.describe_sessions(State="Active")["Sessions"]
    assert entry["Owner"] == "arn:aws:iam::123456789012:user/bob"
    with pytest.raises(ValueError, match="not the name"):
        emulator.identity("not a name")


def test_an_identity_may_do_what_its_policy_says(emulator):
    nothing = {"Version": "2012-10-17", "Statement": []}
    with (
        closing(client_of(emulator.identity("alice", nothing))) as ssm,
        pytest.raises(ClientError, match="no identity-based policy allows"),
    ):
        ssm.start_session(Target=INSTANCE, DocumentName=FORWARDING)
    start_session()  # everybody else may


def test_agents_come_and_go(emulator):
    session_id = start_session()["SessionId"]
    emulator.stop_agent(INSTANCE)
    (session,) = emulator.sessions()
    assert (session["id"], session["output"]) == (session_id, "The agent is gone.")
    # Other faults do not bring it back.
    emulator.set_faults("delay=1ms")
    emulator.clear_faults()
    with pytest.raises(ClientError, match="is not connected"):
        start_session()
    with pytest.raises(ConfigError, match="'web-1' is not a target"):
        emulator.stop_agent("web-1")
    emulator.start_agent(INSTANCE)
    emulator.start_agent(INSTANCE)
    start_session()
    assert emulator.state()["faults"]["specs"] == []


def test_requests_for_access_are_decided_from_the_test():
    with EmulatorThread(EmulatorSettings(approval="manual")) as emulator:
        client = boto3.client(
            "ssm",
            endpoint_url=emulator.endpoint_url,
            region_name="eu-west-1",
            aws_access_key_id="AKID",
            aws_secret_access_key="secret",
        )
        with closing(client):
            made = [
                client.start_access_request(
                    Reason="why", Targets=[{"Key": "InstanceIds", "Values": [INSTANCE]}]
                )["AccessRequestId"]
                for _ in range(2)
            ]
        first, last = made
        assert emulator.approve() == last
        assert emulator.reject(first) == first
        assert [r["status"] for r in emulator.access_requests()] == [
            "Rejected",
            "Approved",
        ]
        emulator.revoke(last)
        assert emulator.access_requests()[1]["status"] == "Revoked"
        with pytest.raises(KeyError):
            emulator.approve("oi-000000000000")


def test_the_fixtures_point_at_one_emulator(request, monkeypatch):
    monkeypatch.setenv("AWS_PROFILE", "somebody-else")
    environment = request.getfixturevalue("ssm_environment")
    emulator = request.getfixturevalue("ssm_emulator")
    assert os.environ["AWS_ENDPOINT_URL_SSM"] == emulator.endpoint_url
    assert "AWS_PROFILE" not in os.environ
    assert environment == emulator.environment
    targets = request.getfixturevalue("ssm_targets")
    with closing(boto3.client("ssm")) as ssm:
        found = ssm.describe_instance_information()["InstanceInformationList"]
    assert {n["ComputerName"]: n["InstanceId"] for n in found} == targets
    # A test with a wrong id fails.
    assert INSTANCE not in targets.values()
    with pytest.raises(ClientError, match="is not connected"):
        start_session()
    request.getfixturevalue("ssm_deny")("ssm:StartSession")
    with pytest.raises(ClientError, match="explicit deny"):
        start_session()
    alice = request.getfixturevalue("ssm_identity")("alice")
    assert alice["AWS_ACCESS_KEY_ID"] != environment["AWS_ACCESS_KEY_ID"]
