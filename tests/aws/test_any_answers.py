"""Whatever an API answers: a usable result, or an AwsError that says what to do."""

import asyncio
import json
from itertools import count

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ssmtunneld.aws.api.port import Grant, Identity, SessionRequest
from ssmtunneld.aws.client import AwsClient
from ssmtunneld.aws.databases.redshift import (
    DatabaseCredentials,
    _ask_cluster,
    _ask_workgroup,
)
from ssmtunneld.aws.instance_connect import push_key
from ssmtunneld.aws.sessions import Entry, Query, SessionHistory
from ssmtunneld.aws.ssm import SsmControl
from ssmtunneld.aws.targets.not_found import explain
from ssmtunneld.aws.targets.search import SearchResult, learn_fates, search
from ssmtunneld.config.targets import parse_target
from ssmtunneld.errors import AwsError, SessionGone, TunnelError
from tests.aws.stub import CELL, GRANT, REGION, SESSION, STREAM, TOKEN, Reply

TARGET = "i-0182d91e85d69cf00"
TASK = "ecs:prod_0123456789abcdef0123456789abcdef_0123456789-1"
SERVICES = [
    "STS",
    "EC2",
    "AUTO_SCALING",
    "ECS",
    "REDSHIFT",
    "REDSHIFT_SERVERLESS",
    "EC2_INSTANCE_CONNECT",
]

scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(10**20), 10**20)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8"), max_size=20)
    | st.sampled_from(
        [
            *[TARGET, TASK, SESSION, TOKEN, STREAM, STREAM + CELL, "RUNNING", "Online"],
            *["ThrottlingException", "\x1b[2J", "x" * 3000, "a b", "é", 1.7e9, 1e300],
        ]
    )
)
# The names that are read somewhere, so that wrong types stand where right ones should.
names = st.sampled_from(
    [
        "SessionId",
        "TokenValue",
        "StreamUrl",
        "Sessions",
        "NextToken",
        "nextToken",
        "MaxSessionDuration",
        "StartDate",
        "EndDate",
        "Status",
        "Owner",
        "Target",
        "tasks",
        "containers",
        "taskArns",
        "taskArn",
        "lastStatus",
        "managedAgents",
        "name",
        "runtimeId",
        "startedAt",
        "serviceArns",
        "clusterArns",
        "failures",
        "InstanceInformationList",
        "InstanceId",
        "PingStatus",
        "AgentVersion",
        "RegistrationDate",
        "Success",
        "dbUser",
        "dbPassword",
        "__type",
        "message",
        "Message",
        "Error",
        "Code",
    ]
) | st.text(st.characters(codec="utf-8"), max_size=8)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=5)
    ),
    max_leaves=12,
)
documents = st.one_of(
    values.map(json.dumps),
    st.sampled_from(
        [
            *["", "null", "[]", "5", "[1]", '{"__type": 5}', '{"tasks":[null]}'],
            "[" * 20000,
            "{" * 9,
            "<a/>",
            "<html>",
            '{"a":' * 5000,
            '{"Sessions": [[]]}',
            "\x00",
            "NaN",
        ]
    ),
    st.text(max_size=40),
)
tags = st.sampled_from(
    [
        "GetCallerIdentityResponse",
        "GetCallerIdentityResult",
        "Arn",
        "Account",
        "DescribeInstancesResponse",
        "reservationSet",
        "item",
        "instancesSet",
        "instanceId",
        "launchTime",
        "instanceState",
        "tagSet",
        "key",
        "value",
        "ownerId",
        "nextToken",
        "DescribeAutoScalingGroupsResponse",
        "DescribeAutoScalingGroupsResult",
        "AutoScalingGroups",
        "member",
        "Instances",
        "InstanceId",
        "LifecycleState",
        "AutoScalingGroupARN",
        "GetClusterCredentialsWithIAMResult",
        "DbUser",
        "DbPassword",
        "Response",
        "Errors",
        "Error",
        "Code",
        "Message",
        "RequestID",
    ]
)
texts = st.sampled_from(
    ["", TARGET, "2026-01-02T00:00:00Z", "never", "InService", "5", "&#10;", "é"]
)
trees = st.recursive(
    texts,
    lambda inner: st.lists(st.tuples(tags, inner), max_size=4).map(
        lambda parts: "".join(f"<{tag}>{text}</{tag}>" for tag, text in parts)
    ),
    max_leaves=10,
)
pages = st.one_of(
    st.tuples(tags, trees).map(lambda pair: f"<{pair[0]}>{pair[1]}</{pair[0]}>"),
    st.sampled_from(["<a/>", "<a>" * 3000 + "</a>" * 3000, "<!DOCTYPE a><a/>", "<a"]),
)
grants = st.dictionaries(names, values, max_size=2).map(
    lambda other: json.dumps(GRANT | other)
)
replies = st.builds(
    Reply, st.sampled_from([200, 200, 200, 400, 500]), documents | grants | pages
)


@pytest.fixture
def account(stub, keys, monkeypatch):
    for service in SERVICES:
        monkeypatch.setenv(f"AWS_ENDPOINT_URL_{service}", stub.url)
    account = AwsClient(Identity(region=REGION, endpoint_url=stub.url))
    yield account
    account.close()


EACH = settings(
    deadline=None,
    max_examples=25,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


class Anything:
    """Answers every operation with these replies, over and over."""

    def __init__(self, stub, given_replies):
        self._turns = count()
        self._replies = given_replies
        stub.scripts = self

    def __getitem__(self, _operation):
        return [self._replies[next(self._turns) % len(self._replies)]]


def harmless(work, kind):
    """Do ``work``: it returns a ``kind``, or raises an error that says what follows."""
    try:
        found = work()
    except TunnelError as error:
        outcome = error
    else:
        assert isinstance(found, kind)
        return
    assert isinstance(outcome, AwsError | SessionGone)
    told = f"{outcome} {outcome.advice}"
    assert told.isprintable()
    assert len(told) < 3000
    assert TOKEN not in told


@pytest.mark.parametrize(
    "target",
    [
        "name:web",
        "tag:A=b",
        "asg:group",
        "ip:10.0.0.5",
        "dns:ip.internal",
        "ecs:prod/api",
    ],
)
@EACH
@given(given_replies=st.lists(replies, min_size=1, max_size=3))
def test_a_search_finds_or_fails(account, stub, target, given_replies):
    Anything(stub, given_replies)
    wanted = parse_target(target)
    harmless(lambda: search(account, wanted), SearchResult)
    harmless(lambda: explain(account, wanted, SearchResult("x")), AwsError)


@pytest.mark.parametrize(
    ("ask", "kind"),
    [
        (lambda a: learn_fates(a, [TARGET, TASK]), dict),
        (lambda a: push_key(a, TARGET, "me", "ssh-ed25519 AAAA"), type(None)),
        (lambda a: _ask_workgroup(a, "w", None), DatabaseCredentials),
        (lambda a: _ask_cluster(a, "c", None, None), DatabaseCredentials),
        (lambda a: _ask_cluster(a, "c", "user", "db"), DatabaseCredentials),
        (lambda a: SessionHistory(a, lambda _: None).caller(), str),
        (lambda a: SessionHistory(a, lambda _: None).terminate(SESSION), bool),
        (
            lambda a: SessionHistory(a, lambda _: None).search(
                Query(9), lambda _: True
            )[0],
            list,
        ),
        (lambda a: SessionHistory(a, lambda _: None).find(SESSION) or Entry, object),
        (lambda a: a.call("GetConnectionStatus", Target=TARGET), object),
    ],
)
@EACH
@given(given_replies=st.lists(replies, min_size=1, max_size=3))
def test_a_question_is_answered_or_fails(account, stub, ask, kind, given_replies):
    Anything(stub, given_replies)
    harmless(lambda: ask(account), kind)


async def converse(identity):
    control = SsmControl(identity)
    request = SessionRequest.port_forward(TARGET, 22)
    outcomes = []
    try:
        for work in (
            lambda: control.start(request),
            lambda: control.resume(SESSION),
            lambda: control.terminate(SESSION),
            control.describe,
        ):
            try:
                outcomes.append(await work())
            except TunnelError as error:
                outcomes.append(error)
    finally:
        await control.close()
    return outcomes


@settings(EACH, max_examples=40)
@given(given_replies=st.lists(replies, min_size=1, max_size=3))
def test_a_session_is_granted_or_refused(stub, keys, given_replies):
    Anything(stub, given_replies)
    identity = Identity(region=REGION, endpoint_url=stub.url)
    for outcome in asyncio.run(converse(identity)):
        if isinstance(outcome, Grant):
            assert outcome.session_id.isascii()
            assert outcome.session_id.isprintable()
            assert " " not in outcome.stream_url
        else:
            assert isinstance(outcome, AwsError | SessionGone | list | None)
