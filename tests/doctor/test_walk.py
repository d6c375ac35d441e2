"""Every hop is broken once, with real sockets, and named with its cure."""

import asyncio
import os

import pytest

from ssmtunneld.doctor import walk
from ssmtunneld.doctor.report import HOPS
from ssmtunneld.errors import LocalProtocolError
from tests.aws.stub import Reply
from tests.integration.world import TARGET
from tests.support import moto
from tests.support.odd_server import OddServer, repeating, saying


def test_a_healthy_tunnel_is_walked_to_its_end(theatre):
    found = theatre.examine()
    assert [finding.hop for finding in found] == list(HOPS)
    skipped = {f.hop for f in found if f.verdict == "skip"}
    assert skipped == {"tls", "identity"}
    assert found.of("target").text == f"{TARGET} is online"
    assert found.of("round trip").text.endswith("ms to the agent and back")
    assert found.of("throughput").text.endswith(" kB/s to the agent")
    assert not any(finding.cure for finding in found)


def test_a_session_that_takes_a_request_is_not_started(theatre):
    found = theatre.examine(access="request")
    assert found.broken == []
    assert found.of("target").verdict == "ok"
    assert "takes an approved request" in found.of("permission").text
    assert found.of("destination").verdict == "skip"
    assert theatre.aws.sessions() == []


def test_a_bastion_that_sleeps_is_not_woken(surgery):
    with surgery.open(stopped=frozenset({TARGET})):
        found = surgery.examine(start_target=True, connect_timeout=60.0)
        assert found.broken == []
        assert f"{TARGET} is stopped; a connection starts" in found.of("target").text
        assert found.of("permission").verdict == "skip"
        assert found.of("destination").verdict == "skip"
        assert surgery.aws.instance(TARGET)["state"] == "stopped"
        assert surgery.aws.sessions() == []


def test_who_may_not_wake_a_bastion_is_told(surgery):
    with surgery.open(stopped=frozenset({TARGET})):
        surgery.aws.deny("ec2:StartInstances")
        found = surgery.examine(start_target=True, connect_timeout=60.0)
        assert "ec2:StartInstances" in broken(found, "target").cure


@pytest.mark.parametrize("stopped", [frozenset({TARGET}), frozenset()])
def test_who_may_not_stop_a_bastion_is_told(surgery, stopped):
    with surgery.open(stopped=stopped):
        surgery.aws.deny("ec2:StopInstances")
        tunnel = {"start_target": True, "connect_timeout": 60.0}
        assert surgery.examine(**tunnel).of("target").verdict != "warn"
        finding = surgery.examine(**tunnel, stop_target_after=60.0).of("target")
        assert finding.verdict == "warn"
        assert f"{TARGET} may not be stopped after connections" in finding.text
        assert "ec2:StopInstances" in finding.cure
        surgery.aws.allow_again()
        found = surgery.examine(**tunnel, stop_target_after=60.0)
        assert found.of("target").verdict == ("skip" if stopped else "ok")
        assert surgery.aws.instance(TARGET)["stops"] == 0


def test_who_may_not_start_a_bastion_that_runs_is_told(theatre):
    theatre.aws.deny("ec2:StartInstances")
    found = theatre.examine(start_target=True, connect_timeout=60.0)
    assert found.of("target").verdict == "warn"
    assert "ec2:StartInstances" in found.of("target").cure
    assert found.of("permission").verdict == "ok"


def test_a_bastion_that_is_awake_is_a_target_like_any_other(theatre):
    found = theatre.examine(start_target=True, connect_timeout=60.0)
    assert found.broken == []
    assert found.of("target").text == f"{TARGET} is online"


def test_nothing_that_signs_is_shown(theatre, monkeypatch):
    monkeypatch.setenv("AWS_SESSION_TOKEN", "canary-session-token")
    found = theatre.examine()
    assert found.of("credentials").text == "key AKIA...0000 of the default credentials"
    words = " ".join(finding.text for finding in found)
    assert "canary" not in words
    assert os.environ["AWS_SECRET_ACCESS_KEY"] not in words


def broken(found, hop):
    """Assert that this hop is named, and what is behind it skipped; return it."""
    assert found.broken == [hop]
    assert found.skipped_behind
    assert found.of(hop).cure
    return found.of(hop)


def test_missing_credentials_are_named(theatre, monkeypatch):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    finding = broken(theatre.examine(), "credentials")
    assert finding.text == "there are no AWS credentials"


def test_a_profile_that_does_not_exist_is_a_matter_of_credentials(theatre):
    finding = broken(theatre.examine(profile="nobody"), "credentials")
    assert "nobody" in finding.text


def test_a_missing_region_is_named(theatre, monkeypatch):
    monkeypatch.delenv("AWS_REGION")
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    found = theatre.examine()
    assert "region" in broken(found, "region").cure
    assert found.of("credentials").text == "not tested without a region"


def test_a_proxy_that_is_not_there_is_named(theatre, monkeypatch, closed_port):
    monkeypatch.setenv("HTTPS_PROXY", f"http://user:secret@127.0.0.1:{closed_port}")
    monkeypatch.setenv("NO_PROXY", "")
    found = theatre.examine(endpoint_url="https://ssm.example.internal")
    finding = broken(found, "proxy")
    assert f"http://127.0.0.1:{closed_port} cannot connect to ssm.ex" in finding.text
    assert "HTTPS_PROXY" in finding.cure
    assert "secret" not in finding.text


def test_what_is_configured_as_a_proxy_and_is_none_is_named(theatre, monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", "gopher://user:secret@127.0.0.1:70")
    monkeypatch.setenv("NO_PROXY", "")
    found = theatre.examine(endpoint_url="https://ssm.example.internal")
    assert found.broken == ["proxy"]
    finding = next(f for f in found if f.verdict == "fail")
    assert "secret" not in finding.text
    assert "HTTPS_PROXY" in finding.cure


@pytest.mark.parametrize(
    ("script", "words"),
    [
        (saying(b"SSH-2.0-OpenSSH_9.6\r\n"), "the answer is not HTTP"),
        (saying(b""), "closed without an answer"),
        (saying(b"HTTP/1.1 407 \x1b[31mLog in\r\n\r\n"), "answered 407 Log in"),
        (saying(b"HTTP/1.1 403\r\n\r\n"), "answered 403"),
        (repeating(b"", b"HTTP/1.1 100 Continue\r\n\r\n"), "the answer is too long"),
        (repeating(b"HTTP/1.1 200 OK\r\n", b"A: b\r\n"), "the answer is too long"),
    ],
    ids=["ssh", "silent", "login", "forbids", "interim", "headers"],
)
def test_what_is_no_proxy_at_the_other_end_is_told_in_a_sentence(
    theatre, monkeypatch, script, words
):
    monkeypatch.setenv("NO_PROXY", "")
    with OddServer(script) as server:
        monkeypatch.setenv("HTTPS_PROXY", f"http://me:canary@127.0.0.1:{server.port}")
        found = theatre.examine(endpoint_url="https://ssm.example.internal")
    finding = broken(found, "proxy")
    assert words in finding.text
    assert "canary" not in finding.told
    assert "\x1b" not in finding.told


@pytest.mark.parametrize("value", ["PROXY 127.0.0.1:3128", "http://[::1", "a b"])
def test_a_proxy_in_another_spelling_is_told_in_a_sentence(theatre, monkeypatch, value):
    monkeypatch.setenv("HTTPS_PROXY", value)
    monkeypatch.setenv("NO_PROXY", "")
    found = theatre.examine(endpoint_url="https://ssm.example.internal")
    assert found.broken == ["proxy"]
    assert "is not a proxy" in next(f.text for f in found if f.verdict == "fail")


async def test_a_hop_that_trips_over_itself_is_a_finding(monkeypatch):
    noted = []
    monkeypatch.setattr(walk, "note_defect", noted.append)

    async def trip():
        raise TypeError("canary")

    async def refuse():
        raise LocalProtocolError("closed")

    finding = await walk._look("tls", trip)
    assert (finding.hop, finding.verdict) == ("tls", "fail")
    assert finding.text == "this test failed unexpectedly (TypeError)"
    assert finding.cure
    assert [type(error) for error in noted] == [TypeError]
    finding = await walk._look("tls", refuse)
    assert (finding.verdict, finding.text) == ("fail", "closed")


def test_a_name_without_an_address_is_named(theatre):
    found = theatre.examine(ssmmessages_endpoint="ssmmessages.example.invalid")
    finding = broken(found, "dns")
    assert finding.text.startswith("ssmmessages.example.invalid has no address: ")


def test_a_port_that_refuses_is_named(theatre, closed_port):
    found = theatre.examine(ssmmessages_endpoint=f"127.0.0.1:{closed_port}")
    finding = broken(found, "tcp")
    words = f"cannot connect to 127.0.0.1:{closed_port}: Connection refused"
    assert finding.text == words


def test_a_certificate_of_a_private_authority_is_named(surgery, certificate):
    cert, key = certificate
    with surgery.open(tls_certificate=cert, tls_key=key):
        finding = broken(surgery.examine(), "tls")
        assert "is not trusted" in finding.text
        assert "AWS_CA_BUNDLE" in finding.cure
        found = surgery.examine(ca_bundle=str(cert))
    assert found.broken == []
    assert "TLSv1.3" in found.of("tls").text


def test_the_environments_bundle_is_trusted_too(surgery, certificate, monkeypatch):
    cert, key = certificate
    monkeypatch.setenv("AWS_CA_BUNDLE", str(cert))
    with surgery.open(tls_certificate=cert, tls_key=key):
        assert surgery.examine().broken == []


@pytest.mark.parametrize(("ahead", "way"), [(300, "ahead of"), (-300, "behind")])
def test_a_clock_that_is_wrong_is_named(theatre, ahead, way):
    found = theatre.examine(ahead=ahead)
    finding = broken(found, "clock")
    assert f"s {way} AWS's" in finding.text
    assert "NTP" in finding.cure


def test_keys_that_sts_refuses_are_named(theatre, stub, monkeypatch):
    text = (
        "<ErrorResponse><Error><Type>Sender</Type><Code>InvalidClientTokenId</Code>"
        "<Message>The security token is invalid</Message></Error></ErrorResponse>"
    )
    stub.answer("GetCallerIdentity", Reply(403, text))
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", stub.url)
    finding = broken(theatre.examine(), "identity")
    assert "InvalidClientTokenId" in finding.text


def test_an_identity_is_shown_and_an_sts_that_is_away_skipped(
    theatre, stub, monkeypatch, closed_port
):
    text = (
        '<GetCallerIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/">'
        "<GetCallerIdentityResult><Arn>arn:aws:iam::123456789012:user/me</Arn>"
        "</GetCallerIdentityResult></GetCallerIdentityResponse>"
    )
    stub.answer("GetCallerIdentity", Reply(200, text))
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", stub.url)
    found = theatre.examine()
    assert found.of("identity").text == "arn:aws:iam::123456789012:user/me"
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", f"http://127.0.0.1:{closed_port}")
    found = theatre.examine()
    assert found.of("identity").text.startswith("STS does not answer: ")
    assert found.broken == []


def test_a_role_that_cannot_be_assumed_yet_is_left_to_the_identity(
    theatre, monkeypatch, closed_port
):
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", f"http://127.0.0.1:{closed_port}")
    found = theatre.examine(role_arn="arn:aws:iam::111122223333:role/R")
    broken(found, "identity")
    assert found.of("credentials").verdict == "skip"


def test_a_target_that_is_offline_is_named(theatre):
    theatre.aws.set_faults(f"offline={TARGET}")
    finding = broken(theatre.examine(), "target")
    assert finding.text == f"{TARGET} is not online in eu-west-1 (ConnectionLost)"
    assert "SSM agent" in finding.cure


def test_a_target_that_nobody_knows_is_named(surgery):
    with surgery.open(targets=frozenset({"i-0123456789abcdef1"})):
        finding = broken(surgery.examine(), "target")
    assert "Systems Manager does not know it" in finding.text


def test_a_target_is_searched_for_and_missed_by_name(theatre, monkeypatch):
    with moto.running() as cloud:
        for name, value in cloud.environment.items():
            monkeypatch.setenv(name, value)
        instance = cloud.launch(Name="bastion-1")
        found = theatre.examine(target="name:bastion-1")
        assert found.broken == []
        assert found.of("target").text == f"{instance} is online"
        assert found.of("identity").verdict == "ok"
        finding = broken(theatre.examine(target="name:bastion-2"), "target")
    # The account may hold other tests' instances, too.
    assert "did you mean name:bastion-1" in finding.cure


def test_a_search_that_is_denied_ends_the_walk(theatre, stub, monkeypatch):
    text = (
        "<Response><Errors><Error><Code>UnauthorizedOperation</Code>"
        "<Message>no</Message></Error></Errors></Response>"
    )
    stub.answer("DescribeInstances", Reply(403, text))
    monkeypatch.setenv("AWS_ENDPOINT_URL_EC2", stub.url)
    finding = theatre.examine(target="name:bastion-1")
    assert "UnauthorizedOperation" in broken(finding, "target").text


def test_a_session_that_cannot_be_ended_is_left_to_idle_out(theatre):
    theatre.aws.set_faults("terminate-error=InternalServerError")
    assert theatre.examine().broken == []
    (session,) = theatre.aws.sessions()
    theatre.aws.close_session(session["id"])


def test_a_task_is_asked_for_by_its_connection(theatre):
    target = f"ecs:prod_{'0' * 32}_{'0' * 32}-123"
    found = theatre.examine(target=target)
    assert found.of("target").text == f"{target} is online"
    assert found.of("agent").verdict == "skip"
    theatre.aws.set_faults(f"offline={target}")
    assert "(notconnected)" in broken(theatre.examine(target=target), "target").text


def test_an_agent_that_is_too_old_for_the_host_is_named(surgery):
    with surgery.open(agent_version="3.1.1000.0"):
        finding = broken(surgery.examine(), "agent")
        assert "3.1.1374.0 or newer" in finding.cure


def test_a_missing_permission_is_named(theatre):
    theatre.aws.set_faults("start-error=AccessDeniedException")
    finding = broken(theatre.examine(), "permission")
    assert "AccessDenied" in finding.text


def test_a_target_that_goes_away_meanwhile_is_still_the_target(theatre):
    theatre.aws.set_faults("start-error=TargetNotConnected")
    found = theatre.examine(api_patience=1.0)
    assert found.broken == ["target"]
    assert "TargetNotConnected" in found.of("target").text


def test_a_describe_that_is_denied_does_not_end_the_walk(theatre, stub):
    stub.answer(
        "DescribeInstanceInformation",
        Reply(400, {"__type": "AccessDeniedException", "message": "no"}),
    )
    stub.answer(
        "StartSession", Reply(400, {"__type": "AccessDeniedException", "message": "no"})
    )
    found = theatre.examine(endpoint_url=stub.url)
    assert found.of("target").verdict == "skip"
    assert found.broken == ["permission"]


def test_a_status_that_is_denied_is_a_warning_and_does_not_end_the_walk(theatre, stub):
    stub.answer(
        "DescribeInstanceInformation",
        Reply(200, {"InstanceInformationList": [{"PingStatus": "Online"}]}),
    )
    denied = Reply(400, {"__type": "AccessDeniedException", "message": "no"})
    stub.answer("GetConnectionStatus", denied)
    stub.answer("StartSession", denied)
    found = theatre.examine(endpoint_url=stub.url, stall_timeout=300.0)
    finding = found.of("target")
    assert finding.verdict == "warn"
    assert "stall_timeout (300 s)" in finding.text
    assert "ssm:GetConnectionStatus" in finding.cure
    assert found.broken == ["permission"]


def test_an_upgrade_that_is_refused_is_named(theatre):
    theatre.aws.set_faults("upgrade-error=403")
    assert "403" in broken(theatre.examine(), "upgrade").text


def test_an_agent_that_says_nothing_is_named(theatre):
    theatre.aws.set_faults("handshake-stall")
    finding = broken(theatre.examine(agent_patience=0.2), "handshake")
    assert finding.text == "no message from the agent within 0.2 s"


def test_a_destination_that_refuses_is_named(theatre):
    theatre.aws.set_faults("refuse-dial")
    finding = broken(theatre.examine(), "destination")
    assert "could not connect" in finding.text
    assert "security group" in finding.cure


def test_an_old_agent_is_walked_as_far_as_it_tells(surgery):
    with surgery.open(agent_version="3.0.100.0"):
        found = surgery.examine(host=None)
    assert found.broken == []
    assert found.of("destination").verdict == "skip"


def test_where_clients_name_the_destination_no_session_is_tried(theatre):
    settings = {"mode": "socks5", "destinations": ["*.x:443"], "listen": 0}
    found = theatre.examine(host=None, port=None, **settings)
    assert found.broken == []
    assert [f.verdict for f in found][-6:] == ["skip"] * 6
    assert theatre.aws.sessions() == []


def test_a_walk_that_is_cancelled_ends_its_session(theatre):
    theatre.aws.set_faults("handshake-stall")

    async def cancel_when_started():
        async with asyncio.TaskGroup() as tasks:
            walk = tasks.create_task(theatre.walk([]), name="walk")
            while not await asyncio.to_thread(theatre.aws.sessions):
                assert not walk.done()
            walk.cancel()
        assert walk.cancelled()

    asyncio.run(cancel_when_started())
    (session,) = theatre.aws.sessions()
    assert session["status"] == "Terminated"
