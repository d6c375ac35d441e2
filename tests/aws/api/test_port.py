"""Requests are built for the right document; grants keep their secrets."""

import pytest

from ssmtunneld.aws.api.port import Grant, Identity, SessionRequest
from ssmtunneld.base.secret import Secret
from ssmtunneld.config import parse_config
from tests.aws.stub import CELL, SESSION, STREAM, TOKEN
from tests.integration.world import tunnel

TARGET = "i-0182d91e85d69cf00"
PLAIN = "AWS-StartPortForwardingSession"
REMOTE = "AWS-StartPortForwardingSessionToRemoteHost"


def test_without_a_host_the_port_is_the_targets_own():
    request = SessionRequest.port_forward(TARGET, 22, reason="ssmtunneld: ssh")
    assert request == SessionRequest(
        target=TARGET,
        document=PLAIN,
        parameters={"portNumber": ("22",), "localPortNumber": ("0",)},
        reason="ssmtunneld: ssh",
    )


def test_with_a_host_the_target_is_a_bastion():
    request = SessionRequest.port_forward(TARGET, 5432, "db.internal")
    assert request.document == REMOTE
    assert request.parameters == {
        "host": ("db.internal",),
        "portNumber": ("5432",),
        "localPortNumber": ("0",),
    }


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "::1"])
@pytest.mark.parametrize("document", [None, PLAIN])
def test_loopback_is_the_target_itself(host, document):
    request = SessionRequest.port_forward(TARGET, 5432, host, document=document)
    assert request.document == PLAIN
    assert "host" not in request.parameters


def test_a_document_of_ones_own_gets_only_what_was_given():
    bare = SessionRequest.port_forward(TARGET, document="Acme-Database")
    assert bare.document == "Acme-Database"
    assert bare.parameters == {}
    full = SessionRequest.port_forward(
        TARGET,
        5432,
        "localhost",
        document="Acme-Database",
        parameters={"stage": "prod", "tags": ["a", "b"], "portNumber": "5433"},
    )
    assert full.parameters == {
        "portNumber": ("5433",),
        "stage": ("prod",),
        "tags": ("a", "b"),
    }


def test_ssh_sessions_have_no_local_port():
    request = SessionRequest.port_forward(TARGET, 22, document="AWS-StartSSHSession")
    assert request.parameters == {"portNumber": ("22",)}


def test_aws_own_documents_need_a_port():
    with pytest.raises(ValueError, match="a port is needed"):
        SessionRequest.port_forward(TARGET)


def test_a_long_reason_is_cut_where_aws_would_refuse_it():
    request = SessionRequest.port_forward(TARGET, 22, reason="x" * 300)
    assert len(request.reason) == 256


def test_a_grant_shows_neither_its_token_nor_its_cell():
    grant = Grant(SESSION, Secret(TOKEN), STREAM + CELL)
    for text in (repr(grant), str(grant), f"{grant}"):
        assert "canary" not in text
        assert "cell-number" not in text
        assert SESSION in text


ROLE = "arn:aws:iam::111122223333:role/team/Bastion"


@pytest.mark.parametrize(
    ("identity", "name", "command"),
    [
        (Identity(), "default", "ssmtunneld login --profile default"),
        (Identity(profile="a b"), "a b", "ssmtunneld login --profile 'a b'"),
        (Identity(profile="prod", tunnel="db"), "prod", "ssmtunneld login db"),
        (
            Identity(role_arn=ROLE, mfa_serial="GAHT12345678"),
            "default/Bastion",
            "ssmtunneld login NAME, of a tunnel with this role",
        ),
        (
            Identity(role_arn=ROLE, tunnel="db"),
            "default/Bastion",
            "ssmtunneld login db",
        ),
    ],
)
def test_an_identity_has_a_name_and_a_way_to_log_in(identity, name, command):
    assert (identity.name, identity.login_command) == (name, command)


def test_tunnels_of_one_identity_are_one_identity():
    one, other = Identity(profile="x", tunnel="a"), Identity(profile="x", tunnel="b")
    assert one == other
    assert hash(one) == hash(other)


def parse_tunnels(*tables):
    return parse_config("\n".join(tables), "test.toml", {}).tunnels


def test_an_identity_is_all_that_decides_whom_aws_sees(tmp_path):
    bundle = tmp_path / "ca.pem"
    bundle.touch()
    plain, full = parse_tunnels(
        tunnel("plain", port=1),
        tunnel(
            "full",
            listen="127.0.0.1:1",
            port=1,
            profile="prod",
            region="eu-west-1",
            endpoint_url="https://ssm.example",
            ssmmessages_endpoint="data.example",
            ca_bundle=str(bundle),
        ),
    )
    assert Identity.of(plain) == Identity()
    assert Identity.of(full) == Identity(
        "prod", "eu-west-1", "https://ssm.example", "data.example", str(bundle)
    )
