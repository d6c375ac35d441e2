"""The identities that list sessions: a configuration's, or the environment's."""

from contextlib import ExitStack
from pathlib import Path

import click
import pytest

from ssmtunneld.aws.api.port import ActiveSession, Identity
from ssmtunneld.cli.commands.sessions.query import (
    SessionFilter,
    SessionScope,
    ask_all,
    held_by_daemons,
    open_ledger,
)
from ssmtunneld.cli.exit_codes import CommandError
from ssmtunneld.config import parse_config
from ssmtunneld.daemon.instance_lock import instance_name
from ssmtunneld.errors import AccessDenied, ConfigError, CredentialsUnusable
from ssmtunneld.sessions.reason import default_reason, mark
from ssmtunneld.testing import EmulatorThread
from tests.cli.household import document, tunnel_document
from tests.integration.world import TARGET, tunnel, use_loopback_aws

SOURCE = Path("/etc/test.toml")
OTHER = "i-0fedcba9876543210"


@pytest.fixture
def service(home, monkeypatch):
    use_loopback_aws(monkeypatch, home)
    with EmulatorThread() as emulator:
        for name, value in emulator.environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("AWS_ENDPOINT_URL_STS", emulator.endpoint_url)
        yield emulator


def place(*tunnels):
    return SessionScope(parse_config("\n".join(tunnels), SOURCE, {}))


def wanted(*, past=False, all_owners=False, limit=50):
    return SessionFilter(past, all_owners, limit)


def start(service, reason="", target=TARGET):
    import boto3

    client = boto3.client("ssm", endpoint_url=service.endpoint_url)
    given = {"Reason": reason} if reason else {}
    document = "AWS-StartPortForwardingSession"
    answer = client.start_session(Target=target, DocumentName=document, **given)
    client.close()
    return answer["SessionId"]


def ids(found):
    return [e.session.session_id for some in found for e in some.entries]


def test_without_a_configuration_it_is_the_environments_identity(home):
    assert SessionScope.of(None, None, None) == SessionScope(None)
    assert SessionScope(None).inquiries() == {Identity(): {None: []}}


def test_an_identity_can_be_named_instead_of_the_configurations(home):
    path = home / "config.toml"
    path.write_text("this is no TOML")
    asked = SessionScope.of(path, "prod", "eu-north-1").inquiries()
    assert asked == {Identity(profile="prod", region="eu-north-1"): {None: []}}


@pytest.mark.parametrize("options", [("prod", None), (None, "eu-north-1")])
def test_tunnels_have_the_identities_that_they_have(home, options):
    with pytest.raises(click.UsageError, match="exclude names of tunnels"):
        SessionScope.of(None, *options, ["db"])


def test_tunnels_need_a_configuration(home, monkeypatch):
    monkeypatch.setattr("ssmtunneld.config.load._exists", lambda _: False)
    with pytest.raises(ConfigError, match="no configuration file"):
        SessionScope.of(None, None, None, ["db"])


def test_a_configuration_that_is_there_must_be_right(home):
    path = home / "config.toml"
    path.write_text("this is no TOML")
    with pytest.raises(ConfigError, match="is not TOML"):
        SessionScope.of(path, None, None)


def test_each_identity_of_a_configuration_is_asked_once(home):
    path = home / "config.toml"
    path.write_text(
        "\n".join(
            [
                tunnel("a", port=1, profile="x"),
                tunnel("b", port=1, profile="y"),
                tunnel("c", port=1, profile="x", target=OTHER),
            ]
        )
    )
    config = SessionScope.of(path, None, None)
    assert config.inquiries() == {
        Identity(profile="x"): {None: ["a", "c"]},
        Identity(profile="y"): {None: ["b"]},
    }
    # The service can be asked for a target, unless that is looked up.
    assert config.inquiries(["c", "a"]) == {
        Identity(profile="x"): {OTHER: ["c"], TARGET: ["a"]}
    }


def test_a_target_that_is_looked_up_may_be_any():
    asked = place(tunnel("a", port=1, target="name:bastion")).inquiries(["a"])
    assert list(asked.values()) == [{None: ["a"]}]


def test_an_unknown_tunnel_is_named():
    with pytest.raises(CommandError, match="no tunnel is called b"):
        place(tunnel("a", port=1)).inquiries(["b"])


def test_a_tunnels_sessions_are_told_by_their_reasons():
    def session(reason):
        return ActiveSession("s", TARGET, "", reason, "Connected", "D")

    here = session(f"x {mark(instance_name(SOURCE), 'db')}")
    elsewhere = session(mark("0" * 12, "db"))
    other = session(f"x {mark(instance_name(SOURCE), 'web')}")
    alone = session(default_reason("db"))
    config = place(tunnel("db", port=1), tunnel("web", port=1))
    everything = [here, elsewhere, other, alone]
    keep = config.keeper(["db"], anybodys=False)
    assert list(filter(keep, everything)) == [here, alone]
    keep = config.keeper(["db"], anybodys=True)
    assert list(filter(keep, everything)) == [here, elsewhere, alone]


def test_sessions_of_one_tunnel_are_found_by_target_and_reason(service):
    reason = f"x {mark(instance_name(SOURCE), 'db')}"
    mine = start(service, reason)
    start(service, reason, target=OTHER)
    start(service, "another")
    config = place(tunnel("db", port=1))
    found, failures = ask_all(config, ["db"], wanted())
    assert (ids(found), failures) == ([mine], [])
    assert (
        found[0].owner
        == "arn:aws:sts::123456789012:assumed-role/emulator/dev@example.com"
    )
    assert found[0].region == "eu-west-1"
    found, _ = ask_all(config, [], wanted(all_owners=True, limit=2))
    assert (len(ids(found)), found[0].more, found[0].owner) == (2, True, None)


def test_without_sts_everybodys_sessions_are_shown(service, monkeypatch):
    monkeypatch.delenv("AWS_ENDPOINT_URL_STS")
    one = start(service)
    found, _ = ask_all(SessionScope(None), [], wanted())
    assert (ids(found), found[0].owner) == ([one], None)


def test_what_one_identity_cannot_be_told_is_no_matter_for_the_others(service):
    one = start(service)
    config = place(tunnel("a", port=1), tunnel("b", port=1, profile="nobody"))
    found, failures = ask_all(config, [], wanted())
    assert ids(found) == [one]
    assert [type(failure) for failure in failures] == [CredentialsUnusable]
    service.add_faults("describe-error=AccessDenied")
    found, failures = ask_all(place(tunnel("a", port=1)), [], wanted(past=True))
    assert (found, [type(failure) for failure in failures]) == ([], [AccessDenied])
    assert "allow ssm:DescribeSessions on *" in failures[0].advice


def test_a_ledger_is_closed_with_its_block(service):
    with ExitStack() as stack:
        assert open_ledger(Identity(), stack).find("nobody") is None


def test_what_daemons_hold_is_known_by_the_ids_of_sessions(operator):
    operator.documents = [
        document(
            tunnel_document("db", sessions=[{"session_id": "a"}, {"session_id": None}]),
            tunnel_document("web", sessions=[]),
            tunnel_document("dyn", sessions=[{"session_id": "b"}, {}]),
        )
    ]
    assert held_by_daemons(None) == {"a": "db", "b": "dyn"}


def test_without_a_daemon_it_is_not_known_what_is_held(home):
    assert held_by_daemons(None) is None
