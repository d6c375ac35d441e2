"""Every row of causes and cures, by real answers and by real failures."""

import ast
import inspect
import socket
from collections import Counter

import pytest
from botocore.exceptions import ClientError

from ssmtunneld.aws.api import causes
from ssmtunneld.aws.api.causes import (
    CODES,
    EXCEPTIONS,
    cause_of_code,
    cause_of_exception,
)
from ssmtunneld.aws.api.errors import CallContext, translate
from ssmtunneld.aws.api.port import Identity
from ssmtunneld.aws.client import AwsClient
from ssmtunneld.errors import (
    AccessDenied,
    AwsError,
    CredentialsUnusable,
    Recovery,
    RequestRejected,
    ServiceUnavailable,
    TargetNotConnected,
    Throttled,
)
from tests.aws.stub import REGION, Reply, error
from tests.support.odd_server import OddServer, saying

TARGET = "i-0182d91e85d69cf00"
DURING = CallContext(
    "StartSession",
    REGION,
    renewal="run: aws sso login",
    profile="prod",
    target=TARGET,
    document="Doc",
)


def refused(code, message="no", status=400, during=DURING):
    answer = {
        "Error": {"Code": code, "Message": message},
        "ResponseMetadata": {"HTTPStatusCode": status},
    }
    return translate(ClientError(answer, during.operation), during)


@pytest.mark.parametrize("code", sorted(CODES))
def test_every_code_has_a_class_and_a_cure_without_gaps(code):
    refusal = refused(code)
    assert isinstance(refusal, AwsError)
    assert type(refusal) is next(c for c in CODES[code] if c.fits("no")).kind
    assert refusal.advice
    assert "{" not in refusal.advice.replace("${aws:userid}", "")
    assert refusal.code == code


def test_no_code_has_two_rows():
    # The later one would count, and nobody would be told.
    tables = [
        node.value
        for node in ast.parse(inspect.getsource(causes)).body
        if isinstance(node, ast.AnnAssign) and isinstance(node.value, ast.Dict)
    ]
    assert len(tables) == 2
    for table in tables:
        named = [*table.keys]
        for part in table.values:
            named += part.args[1:] if isinstance(part, ast.Call) else []
        names = Counter(n.value for n in named if isinstance(n, ast.Constant))
        assert "ValidationException" in names or "SSLError" in names
        assert [name for name, count in names.items() if count > 1] == []


@pytest.mark.parametrize("code", sorted(CODES))
def test_the_last_row_of_a_code_is_for_whatever_the_others_are_not_for(code):
    assert CODES[code][-1].fits("")


@pytest.mark.parametrize("name", sorted(EXCEPTIONS))
def test_every_exception_has_a_class_and_a_cure(name):
    for cause in EXCEPTIONS[name]:
        assert issubclass(cause.kind, AwsError)
        assert cause.cure
    # The last row of each is for whatever the others are not for.
    assert EXCEPTIONS[name][-1].fits("")


def test_what_nobody_has_seen_is_tried_again_and_says_so():
    assert cause_of_code("New", "", 400).kind is AwsError
    assert cause_of_code("New", "", 503).kind is ServiceUnavailable
    assert cause_of_code("New", "Rate exceeded", 400).kind is Throttled
    assert cause_of_exception(["Odd", "Exception"], "").code == "UnusableAnswer"
    assert cause_of_exception(["Odd", "BotoCoreError"], "").kind is AwsError
    assert refused("New").recovery is Recovery.RESTART
    assert refused("New").advice


@pytest.fixture
def ask(stub, keys):
    """Make a call at an endpoint; return its refusal."""
    opened = []

    def ask(endpoint=stub.url, profile=None, region=REGION, **settings):
        account = AwsClient(Identity(profile, region, endpoint, **settings))
        opened.append(account)
        with pytest.raises(AwsError) as caught:
            account.call("StartSession", Target=TARGET, DocumentName="Doc")
        assert caught.value.advice
        assert "{" not in caught.value.advice.replace("${aws:userid}", "")
        assert "\n" not in str(caught.value)
        return caught.value

    yield ask
    for account in opened:
        account.close()


MOTO = (
    "<!doctype html>\n<html lang=en>\n<title>500 Internal Server Error</title>\n"
    "<h1>Internal Server Error</h1>\n<p>The server encountered an internal error.</p>\n"
)


@pytest.mark.parametrize("status", [500, 503, 403, 404, 418])
def test_of_a_web_page_only_its_title_is_told(ask, stub, status):
    stub.answer("StartSession", Reply(status, MOTO))
    told = str(ask())
    assert "a web page: 500 Internal Server Error" in told
    assert "<" not in told
    assert "encountered" not in told


@pytest.mark.parametrize(
    ("reply", "kind", "cure"),
    [
        (
            error("ThrottlingException"),
            Throttled,
            "wait, tunnels try again more slowly",
        ),
        (Reply(429, ""), Throttled, "more StartSession calls a second"),
        (Reply(500, ""), ServiceUnavailable, "wait, tunnels try again by themselves"),
        (Reply(500, MOTO), ServiceUnavailable, "if it persists, find out what answers"),
        (Reply(503, ""), ServiceUnavailable, "https://health.aws.amazon.com"),
        (error("InternalServerError", status=500), ServiceUnavailable, "wait"),
        (error("ServiceQuotaExceededException"), Throttled, "Service Quotas"),
        (error("LimitExceededException"), Throttled, "ssmtunneld sessions"),
        (Reply(302, ""), ServiceUnavailable, "a portal of this network"),
        (Reply(307, ""), ServiceUnavailable, "a portal of this network"),
        (Reply(404, ""), ServiceUnavailable, "a wrong endpoint_url"),
        (Reply(407, ""), ServiceUnavailable, "user and password to HTTPS_PROXY"),
        (Reply(403, ""), AccessDenied, "check what answered"),
        (error("AccessDeniedException"), AccessDenied, "allow ssm:StartSession on"),
        (error("OptInRequired", status=403), AccessDenied, "aws account enable-region"),
        (error("TargetNotConnected"), TargetNotConnected, "its SSM agent is online"),
        (error("InvalidDocument"), RequestRejected, "check that document Doc exists"),
        (error("ValidationException"), RequestRejected, "parameters of this tunnel"),
        (error("ExpiredTokenException"), CredentialsUnusable, "start ssmtunneld again"),
        (
            error("InvalidSignatureException"),
            CredentialsUnusable,
            "and check this machine's clock",
        ),
        (Reply(200, "<!doctype html><p>Log in"), ServiceUnavailable, "wants a login"),
        (Reply(200, "null"), ServiceUnavailable, "find out what answers there"),
        (Reply(400, "[1]"), ServiceUnavailable, "find out what answers there"),
    ],
)
def test_an_answer_has_its_cure(ask, stub, reply, kind, cure):
    stub.answer("StartSession", reply)
    refusal = ask()
    assert type(refusal) is kind
    assert cure in refusal.advice


@pytest.mark.parametrize(
    ("region", "named"), [("af-south-1", True), ("eu-west-1", False)]
)
def test_keys_unknown_in_a_region_that_may_be_off_say_so(ask, stub, region, named):
    stub.answer("StartSession", error("UnrecognizedClientException"))
    refusal = ask(region=region)
    assert isinstance(refusal, CredentialsUnusable)
    assert (f"enable region {region}" in refusal.advice) is named


PROFILES = """
[profile sourceless]
role_arn = arn:aws:iam::111122223333:role/R
credential_source = EcsContainer
[profile orphan]
role_arn = arn:aws:iam::111122223333:role/R
source_profile = gone
[profile loop]
role_arn = arn:aws:iam::111122223333:role/R
source_profile = pool
[profile pool]
role_arn = arn:aws:iam::111122223333:role/R
source_profile = loop
"""


@pytest.mark.parametrize(
    ("profile", "cure"),
    [
        ("sourceless", "where credential_source has keys"),
        ("orphan", "correct source_profile"),
        ("loop", "circular from profile loop"),
        ("nobody", "aws configure sso --profile nobody"),
    ],
)
def test_a_profile_that_leads_nowhere_has_its_cure(ask, aws_files, profile, cure):
    aws_files.config.write_text(PROFILES)
    refusal = ask(profile=profile)
    assert type(refusal) is CredentialsUnusable
    assert cure in refusal.advice


def test_an_emulator_that_does_not_run_is_to_be_started(ask):
    refusal = ask("http://127.0.0.1:1")
    assert refusal.code == "EndpointConnectionError"
    assert "ssmtunneld emulator" in refusal.advice


def test_https_to_a_plain_port_is_a_matter_of_the_endpoint(ask):
    def speak_plainly(connection, _over):
        connection.recv(65536)
        connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    with OddServer(speak_plainly) as server:
        refusal = ask(f"https://127.0.0.1:{server.port}")
    assert refusal.code == "NotTls"
    assert "http://" in refusal.advice


@pytest.mark.parametrize(
    ("answer", "code", "cure"),
    [
        (b"HTTP/1.1 407 Log in\r\n\r\n", "ProxyDemandsLogin", "user and password"),
        (b"HTTP/1.1 403 No\r\n\r\n", "ProxyForbids", "let the proxy connect"),
        (b"HTTP/1.1 502 No\r\n\r\n", "ProxyUnusable", "check HTTPS_PROXY"),
        (b"SSH-2.0-OpenSSH_9.6\r\n", "ProxyUnusable", "check HTTPS_PROXY"),
    ],
)
def test_a_proxy_has_its_cure(ask, answer, code, cure):
    with OddServer(saying(answer)) as server:
        refusal = ask("https://ssm.example", proxy=f"http://127.0.0.1:{server.port}")
    assert type(refusal) is ServiceUnavailable
    assert refusal.code == code
    assert cure in refusal.advice


@pytest.mark.parametrize(
    ("variable", "value"),
    [("HTTPS_PROXY", "PROXY 127.0.0.1:3128"), ("HTTPS_PROXY", "http://[::1")],
)
def test_what_is_no_proxy_is_a_setting(ask, monkeypatch, variable, value):
    monkeypatch.setenv(variable, value)
    monkeypatch.setenv("NO_PROXY", "")
    refusal = ask("https://ssm.example")
    assert type(refusal) is RequestRejected
    assert refusal.code == "InvalidSetting"
    assert "proxy" in refusal.advice


def test_an_endpoint_that_says_nothing_has_a_cure(ask, monkeypatch):
    monkeypatch.setattr("ssmtunneld.aws.api.http.Sender.__init__.__defaults__", (0.1,))
    with socket.create_server(("127.0.0.1", 0)) as server:
        refusal = ask(f"http://127.0.0.1:{server.getsockname()[1]}")
    assert refusal.code == "CallTooSlow"
    assert "VPN, proxy, firewall" in refusal.advice
