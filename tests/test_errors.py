"""Errors: what follows, what it says, what to do; and the tree as it is drawn."""

import inspect
import pickle
import re
from copy import copy

import pytest

from ssmtunneld import errors
from ssmtunneld.errors import (
    AccessDenied,
    AddressForbidden,
    AddressInUse,
    AgentUnresponsive,
    AwsError,
    ChannelClosed,
    ConfigError,
    ConfigMissing,
    CredentialsUnusable,
    DestinationForbidden,
    DestinationRefused,
    HandshakeFailed,
    LinkLost,
    LinkRefused,
    LinkUnreachable,
    LocalProtocolError,
    NoSessionReady,
    PeerUnresponsive,
    Recovery,
    RemoteProtocolError,
    RequestRejected,
    ServiceUnavailable,
    SessionGone,
    SsmtunneldError,
    StreamReset,
    TargetNotConnected,
    Throttled,
    TrialLost,
    TunnelError,
)

CLASSES = {
    name: item
    for name, item in vars(errors).items()
    if inspect.isclass(item) and issubclass(item, SsmtunneldError)
}


def _drawn():
    """Return child: parent, as the picture in the module's docstring has them."""
    parents, path = {}, []
    for line in errors.__doc__.splitlines():
        match = re.match(r"    ([ │├└─]*)([A-Z]\w+)", line)
        if match:
            depth = len(match[1]) // 4
            path[depth:] = [match[2]]
            parents[match[2]] = path[depth - 1] if depth else "Exception"
    return parents


def test_the_tree_in_the_documentation_is_the_tree():
    actual = {name: item.__bases__[0].__name__ for name, item in CLASSES.items()}
    assert _drawn() == actual


@pytest.mark.parametrize(
    ("kind", "recovery"),
    [
        (LinkLost, Recovery.RESUME),
        (LinkRefused, Recovery.RESUME),
        (LinkUnreachable, Recovery.RESUME),
        (PeerUnresponsive, Recovery.RESUME),
        (RemoteProtocolError, Recovery.RESTART),
        (HandshakeFailed, Recovery.RESTART),
        (ChannelClosed, Recovery.RESTART),
        (DestinationForbidden, Recovery.WAIT),
        (SessionGone, Recovery.RESTART),
        (TrialLost, Recovery.RESTART),
        (AgentUnresponsive, Recovery.RESTART),
        (Throttled, Recovery.RESTART),
        (ServiceUnavailable, Recovery.RESTART),
        (TargetNotConnected, Recovery.WAIT),
        (AccessDenied, Recovery.WAIT),
        (CredentialsUnusable, Recovery.WAIT),
        (RequestRejected, Recovery.STOP),
        (StreamReset, Recovery.RESTART),
        (DestinationRefused, Recovery.RESTART),
        (NoSessionReady, Recovery.RESTART),
    ],
)
def test_an_error_says_what_follows(kind, recovery):
    assert kind.recovery is recovery


def test_every_error_of_a_tunnel_says_what_follows():
    kinds = [kind for kind in CLASSES.values() if issubclass(kind, TunnelError)]
    assert kinds
    assert all(isinstance(kind.recovery, Recovery) for kind in kinds)


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (
            ConfigError(["a.toml:3: tunnels.db.prot: unknown key", "a.toml: empty"]),
            "a.toml:3: tunnels.db.prot: unknown key\na.toml: empty",
        ),
        (
            AddressInUse("127.0.0.1:22", "Address already in use"),
            "cannot listen on 127.0.0.1:22: Address already in use",
        ),
        (
            AddressInUse("127.0.0.1:22", "Address already in use", "sshd, pid 812"),
            "cannot listen on 127.0.0.1:22: Address already in use"
            " (held by sshd, pid 812)",
        ),
        (
            AddressForbidden("127.0.0.1:22", "Permission denied", "choose another"),
            "cannot listen on 127.0.0.1:22: Permission denied",
        ),
        (LinkLost("reset"), "the data channel's websocket ended: reset"),
        (
            LinkLost("Bye", 1000),
            "the data channel's websocket ended: Bye (close code 1000)",
        ),
        (
            LinkRefused(403, "ssmmessages.eu-west-1.amazonaws.com"),
            "ssmmessages.eu-west-1.amazonaws.com refused the data channel"
            " with HTTP 403",
        ),
        (
            LinkUnreachable("ssmmessages.eu-west-1.amazonaws.com", "timed out"),
            "cannot reach ssmmessages.eu-west-1.amazonaws.com: timed out",
        ),
        (
            PeerUnresponsive(40.2),
            "nothing was heard on the data channel for 40 s",
        ),
        (ChannelClosed(), "the service ended the session: no reason given"),
        (
            ChannelClosed("\n----------ERROR-------\nport is\n forbidden"),
            "the service ended the session: port is forbidden",
        ),
        (
            SessionGone("me-1", "timed out"),
            "session me-1 cannot be resumed: timed out",
        ),
        (
            AccessDenied("StartSession", "AccessDeniedException", "not authorized"),
            "StartSession failed: AccessDeniedException: not authorized",
        ),
        (
            TrialLost(8192, "no acknowledgement in 3 s"),
            "a message of 8192 bytes was tried: no acknowledgement in 3 s",
        ),
        (RemoteProtocolError("too short"), "too short"),
        (
            AgentUnresponsive("i-1", 40.2, "AWS has lost it"),
            "the agent of i-1 has acknowledged nothing for 40 s, and AWS has lost it",
        ),
    ],
)
def test_an_error_makes_one_sentence_of_its_evidence(error, sentence):
    assert str(error) == sentence


@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_upgrade_names_the_missing_permission(status):
    assert "ssmmessages:OpenDataChannel" in LinkRefused(status, "host").advice


def test_another_refusal_of_the_upgrade_gives_no_wrong_advice():
    assert LinkRefused(503, "host").advice == ""


def test_an_unreachable_host_is_named_in_what_to_do():
    assert "HTTPS to ssmmessages is open" in LinkUnreachable("ssmmessages", "x").advice


def test_a_held_address_advises_by_what_is_known():
    assert AddressInUse("a", "b").advice == "choose another address"
    assert "sshd, pid 8" in AddressInUse("a", "b", "sshd, pid 8").advice


def test_a_defect_of_ours_asks_to_be_reported():
    assert "report" in LocalProtocolError("send() while closed").advice


def test_advice_of_an_aws_error_is_what_the_translator_gave():
    given = AwsError("StartSession", "Code", "words", "log in again")
    assert given.advice == "log in again"
    assert AwsError("StartSession", "Code", "words").advice == ""


@pytest.mark.parametrize(
    "error",
    [
        ConfigError(["x"]),
        ConfigMissing("x is not there", "write one"),
        AddressInUse("a", "b", "c"),
        LinkLost("reset", 1006),
        LinkRefused(403, "host"),
        LinkUnreachable("host", "timed out"),
        PeerUnresponsive(1.0),
        ChannelClosed("bye"),
        DestinationForbidden("Forwarding to IP address 127.0.0.1 is forbidden."),
        SessionGone("s", "r"),
        TrialLost(8192, "silence"),
        AgentUnresponsive("i-1", 40.0, "AWS has lost it"),
        Throttled("StartSession", "ThrottlingException", "slow down", "wait"),
    ],
)
def test_an_error_survives_a_copy_between_processes(error):
    made = pickle.loads(pickle.dumps(error))
    assert type(made) is type(error)
    assert (str(made), made.advice) == (str(error), error.advice)


def _made(kind):
    """Return an error of a class, with something for each argument that it needs."""
    if kind.__init__ is Exception.__init__:
        return kind("words")
    needed = [
        parameter
        for parameter in inspect.signature(kind).parameters.values()
        if parameter.default is parameter.empty
    ]
    values = {int: 1, float: 1.0, list[str]: ["x"]}
    return kind(*(values.get(p.annotation, p.name) for p in needed))


@pytest.mark.parametrize("kind", CLASSES.values(), ids=CLASSES)
@pytest.mark.parametrize("again", [copy, lambda e: pickle.loads(pickle.dumps(e))])
def test_every_error_is_the_same_in_another_process(kind, again):
    error = _made(kind)
    error.add_note("met while the database was opened")
    made = again(error)
    assert type(made) is kind
    assert made is not error
    assert (str(made), made.args, vars(made)) == (str(error), error.args, vars(error))
    assert getattr(made, "errno", None) == getattr(error, "errno", None)
