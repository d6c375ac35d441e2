"""The botocore client of one identity: settings, renewals, and what it keeps quiet."""

import json
import logging
from datetime import UTC, datetime, timedelta

import pytest

from ssmtunneld import __version__
from ssmtunneld.aws.api import answers
from ssmtunneld.aws.api.port import Identity
from ssmtunneld.aws.client import AwsClient
from ssmtunneld.aws.identity.credentials import Refreshes
from ssmtunneld.aws.identity.mfa_cache import MfaRole, cache_folder
from ssmtunneld.errors import (
    AwsError,
    CredentialsUnusable,
    RequestRejected,
    ServiceUnavailable,
    SessionGone,
)
from tests.aws.conftest import ACCESS_KEY, SECRET_KEY, SESSION_TOKEN
from tests.aws.stub import GRANT, REGION, SESSION, TOKEN, Reply, error
from tests.support.authority import Authority
from tests.support.forward_proxy import ForwardProxy

TARGET = "i-0182d91e85d69cf00"


@pytest.fixture
def open_account():
    opened = []

    def open_it(*args, **settings):
        account = AwsClient(Identity(*args, **settings))
        opened.append(account)
        return account

    yield open_it
    for account in opened:
        account.close()


@pytest.fixture
def account(open_account, stub, keys):
    return open_account(region=REGION, endpoint_url=stub.url)


def start(account):
    return account.call("StartSession", Target=TARGET)


def test_a_call_is_signed_and_names_this_program(account, stub):
    assert account.place is None
    assert start(account).matching("TokenValue", answers.TOKEN) == TOKEN
    (asked,) = stub.asked
    assert asked.body == {"Target": TARGET}
    assert f"Credential={ACCESS_KEY}/" in asked.headers["authorization"]
    assert f"/{REGION}/ssm/aws4_request" in asked.headers["authorization"]
    assert asked.headers["x-amz-security-token"] == SESSION_TOKEN
    assert f"ssmtunneld/{__version__}" in asked.headers["user-agent"]
    # A pooled connection that dies with the network would cost a read timeout.
    assert asked.headers["connection"] == "close"


def test_a_token_longer_than_the_model_says_is_taken(account, stub):
    stub.answer("StartSession", GRANT | {"TokenValue": "x" * 5000})
    assert start(account).matching("TokenValue", answers.TOKEN) == "x" * 5000


def test_a_failure_is_not_retried_here(account, stub, monkeypatch):
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "5")
    monkeypatch.setenv("AWS_RETRY_MODE", "adaptive")
    stub.answer("StartSession", error("InternalServerError", status=500))
    with pytest.raises(ServiceUnavailable):
        start(account)
    assert len(stub.asked) == 1


@pytest.mark.parametrize("name", ["aws.ssm#TargetNotConnected", "TargetNotConnected"])
@pytest.mark.parametrize("key", ["message", "Message"])
def test_both_spellings_of_an_error_are_understood(account, stub, name, key):
    stub.answer("StartSession", Reply(400, {"__type": name, key: "not there"}))
    with pytest.raises(AwsError) as caught:
        start(account)
    assert str(caught.value) == "StartSession failed: TargetNotConnected: not there"


def test_an_answer_without_a_body_is_translated(account, stub):
    stub.answer("StartSession", Reply(403, ""))
    with pytest.raises(AwsError) as caught:
        start(account)
    assert caught.value.code == "403"


def test_a_session_that_does_not_exist_is_gone(account, stub):
    stub.answer("ResumeSession", error("DoesNotExistException", "unknown"))
    with pytest.raises(SessionGone):
        account.call("ResumeSession", SessionId=SESSION)


def test_bad_parameters_are_rejected_before_they_are_sent(account, stub):
    with pytest.raises(RequestRejected, match="ParamValidationError"):
        account.call("StartSession", Target=7)
    assert stub.asked == []


def test_an_endpoint_that_does_not_answer_is_unavailable(open_account, keys, stub):
    account = open_account(region=REGION, endpoint_url="http://127.0.0.1:1")
    with pytest.raises(ServiceUnavailable) as caught:
        start(account)
    assert caught.value.code == "EndpointConnectionError"


@pytest.mark.parametrize(
    "settings",
    [
        {"endpoint_url": "no endpoint"},
        {"ssmmessages_endpoint": "https://host/path"},
        {"region": "no region"},
        {"ca_bundle": "/no/such.pem"},
    ],
)
def test_a_setting_that_cannot_be_used_is_rejected(open_account, keys, settings):
    account = open_account(**({"region": REGION} | settings))
    with pytest.raises(RequestRejected):
        start(account)
    assert account.place is None


# The region, in the order of users.md 3.7.


def region_of(account):
    with pytest.raises(AwsError):
        account.call("StartSession", Target=TARGET)
    return account.place.region


def test_a_configured_region_wins(open_account, keys, monkeypatch):
    monkeypatch.setenv("AWS_REGION", "eu-central-1")
    url = "http://127.0.0.1:1"
    assert (
        region_of(open_account(region="eu-north-1", endpoint_url=url)) == "eu-north-1"
    )


def test_either_variable_names_the_region(open_account, keys, monkeypatch):
    url = "http://127.0.0.1:1"
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-south-1")
    assert region_of(open_account(endpoint_url=url)) == "eu-south-1"
    monkeypatch.setenv("AWS_REGION", "eu-central-1")
    assert region_of(open_account(endpoint_url=url)) == "eu-central-1"


def test_a_region_of_an_environment_file_with_crlf_is_good(
    open_account, keys, monkeypatch
):
    monkeypatch.setenv("AWS_REGION", "eu-central-1\r")
    account = open_account(endpoint_url="http://127.0.0.1:1")
    assert region_of(account) == "eu-central-1"


def test_a_profile_names_the_region(open_account, aws_files):
    aws_files.config.write_text("[profile prod]\nregion = sa-east-1\n")
    aws_files.write_keys(ACCESS_KEY, profile="prod")
    account = open_account(profile="prod", endpoint_url="http://127.0.0.1:1")
    assert region_of(account) == "sa-east-1"


def test_an_instance_knows_its_region(open_account, keys, stub, monkeypatch):
    monkeypatch.delenv("AWS_EC2_METADATA_DISABLED")
    monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", stub.url)
    stub.answer("PUT /latest/api/token", Reply(body="imds-token"))
    zone = "GET /latest/meta-data/placement/availability-zone/"
    stub.answer(zone, Reply(body="ap-southeast-2b"))
    account = open_account(endpoint_url="http://127.0.0.1:1")
    assert region_of(account) == "ap-southeast-2"


def test_without_any_region_the_setting_to_make_is_named(open_account, keys):
    with pytest.raises(RequestRejected) as caught:
        start(open_account())
    assert caught.value.code == "NoRegionError"
    assert caught.value.advice == (
        "set region, such as us-east-1, or export AWS_REGION"
    )
    assert "no region is set" in str(caught.value)


def test_a_call_that_could_not_be_prepared_is_prepared_again(
    open_account, aws_files, stub
):
    account = open_account(profile="prod", region=REGION, endpoint_url=stub.url)
    with pytest.raises(CredentialsUnusable) as caught:
        start(account)
    assert caught.value.code == "ProfileNotFound"
    assert "aws configure sso --profile prod" in caught.value.advice
    with pytest.raises(CredentialsUnusable):
        account.keys("OpenDataChannel")
    aws_files.write_keys(ACCESS_KEY, profile="prod")
    assert start(account).text("SessionId") == SESSION


def test_a_profile_from_the_environment_is_named_in_advice(
    open_account, aws_files, monkeypatch
):
    monkeypatch.setenv("AWS_PROFILE", "staging")
    with pytest.raises(CredentialsUnusable) as caught:
        start(open_account(region=REGION))
    assert caught.value.advice.endswith("aws configure sso --profile staging")


# The endpoints.


def test_endpoint_variables_are_honoured(open_account, keys, stub, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_ENDPOINT_URL_SSM", stub.url)
    monkeypatch.setenv("AWS_ENDPOINT_URL_SSMMESSAGES", "https://private.example")
    account = open_account(region=REGION)
    start(account)
    assert account.place.ssm_endpoint == stub.url
    assert account.place.ssmmessages_endpoint == "wss://private.example"


def test_the_general_endpoint_variable_is_honoured(
    open_account, keys, stub, monkeypatch
):
    monkeypatch.setenv("AWS_ENDPOINT_URL", stub.url)
    account = open_account(region=REGION)
    start(account)
    assert account.place.ssm_endpoint == stub.url
    assert account.place.ssmmessages_endpoint is None


def test_a_services_section_is_honoured(open_account, aws_files, stub):
    aws_files.write_keys(ACCESS_KEY, profile="prod")
    aws_files.config.write_text(
        "[profile prod]\nservices = local\n"
        f"[services local]\nssm =\n  endpoint_url = {stub.url}\n"
    )
    account = open_account(profile="prod", region=REGION)
    assert start(account).text("SessionId") == SESSION


SERVICES = (
    "[default]\nservices = local\n{}"
    "[services local]\nssmmessages =\n  endpoint_url = https://private.example\n"
)


@pytest.mark.parametrize(
    ("text", "endpoint"),
    [
        (SERVICES.format(""), "wss://private.example"),
        (SERVICES.format("ignore_configured_endpoint_urls = true\n"), None),
        ("[default]\nservices = none\n", None),
        ("[default]\nservices = odd\n[services odd]\nssmmessages = x\n", None),
    ],
)
def test_a_services_section_may_name_the_data_channels_endpoint(
    open_account, keys, aws_files, stub, text, endpoint
):
    aws_files.config.write_text(text)
    account = open_account(region=REGION, endpoint_url=stub.url)
    start(account)
    assert account.place.ssmmessages_endpoint == endpoint


def test_those_that_give_credentials_are_asked_on_the_same_way(open_account, keys):
    with ForwardProxy({}) as proxy:
        account = open_account(
            region=REGION,
            role_arn="arn:aws:iam::123456789012:role/ops",
            proxy=proxy.url(),
        )
        with pytest.raises(ServiceUnavailable, match=r"proxy .* failed"):
            start(account)
    assert set(proxy.asked) == {f"sts.{REGION}.amazonaws.com:443"}


def test_the_certificates_are_known_for_the_data_channel(
    open_account, keys, aws_files, stub, tmp_path, monkeypatch
):
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "")
    monkeypatch.setenv("AWS_CA_BUNDLE", "")
    bundle = str(Authority(tmp_path, "private").bundle)
    for settings, expected in (({}, None), ({"ca_bundle": bundle}, bundle)):
        account = open_account(region=REGION, endpoint_url=stub.url, **settings)
        start(account)
        assert account.place.ca_bundle == expected


def test_configured_endpoints_win_over_variables(open_account, keys, stub, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL_SSM", "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_ENDPOINT_URL_SSMMESSAGES", "https://other.example")
    account = open_account(
        region=REGION, endpoint_url=stub.url, ssmmessages_endpoint="mine.example"
    )
    start(account)
    assert account.place.ssmmessages_endpoint == "wss://mine.example"


@pytest.mark.parametrize("by_variable", [True, False])
def test_an_emulator_is_not_looked_for_behind_a_proxy(
    open_account, keys, stub, monkeypatch, by_variable
):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.delenv("NO_PROXY")
    if by_variable:
        monkeypatch.setenv("AWS_ENDPOINT_URL_SSM", stub.url)
    endpoint = None if by_variable else stub.url
    account = open_account(region=REGION, endpoint_url=endpoint)
    assert start(account).text("SessionId") == SESSION


def test_endpoint_variables_can_be_ignored(open_account, keys, stub, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL_SSMMESSAGES", "https://private.example")
    monkeypatch.setenv("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "true")
    account = open_account(region=REGION, endpoint_url=stub.url)
    start(account)
    assert account.place.ssmmessages_endpoint is None


# Credentials that come and go.


def test_without_credentials_the_login_is_named(open_account, aws_files, stub):
    account = open_account(region=REGION, endpoint_url=stub.url)
    with pytest.raises(CredentialsUnusable) as caught:
        start(account)
    assert caught.value.code == "NoCredentialsError"
    assert account.keys("OpenDataChannel") == (None, account.place)


def test_keys_that_appear_later_are_found(open_account, aws_files, stub):
    account = open_account(region=REGION, endpoint_url=stub.url)
    with pytest.raises(CredentialsUnusable):
        start(account)
    aws_files.write_keys(ACCESS_KEY)
    assert start(account).text("SessionId") == SESSION


def test_expired_keys_that_were_rewritten_are_used_at_once(
    open_account, aws_files, stub
):
    aws_files.write_keys("AKIAFIRST")
    account = open_account(region=REGION, endpoint_url=stub.url)
    start(account)
    client = account._connection.client("ssm")
    aws_files.write_keys("AKIASECOND")
    stub.answer("StartSession", error("ExpiredTokenException"), GRANT)
    assert start(account).text("SessionId") == SESSION
    assert [key_of(asked) for asked in stub.asked] == [
        "AKIAFIRST",
        "AKIAFIRST",
        "AKIASECOND",
    ]
    assert account._connection.client("ssm") is client


def key_of(asked):
    return asked.headers["authorization"].partition("Credential=")[2].partition("/")[0]


def test_expired_keys_are_not_tried_twice(open_account, aws_files, stub):
    aws_files.write_keys("AKIAFIRST")
    account = open_account(region=REGION, endpoint_url=stub.url)
    stub.answer("ResumeSession", error("ExpiredTokenException", "expired"))
    with pytest.raises(CredentialsUnusable) as caught:
        account.call("ResumeSession", SessionId=SESSION)
    assert len(stub.asked) == 1
    assert caught.value.advice.startswith("write new keys of profile default")
    aws_files.write_keys("AKIASECOND")
    stub.answer("ResumeSession", GRANT)
    account.call("ResumeSession", SessionId=SESSION)
    assert key_of(stub.asked[-1]) == "AKIAFIRST"


def test_new_keys_that_are_refused_too_are_an_error(open_account, aws_files, stub):
    aws_files.write_keys("AKIAFIRST")
    account = open_account(region=REGION, endpoint_url=stub.url)
    start(account)
    aws_files.write_keys("AKIASECOND")
    stub.answer("StartSession", error("UnrecognizedClientException"))
    with pytest.raises(CredentialsUnusable):
        start(account)
    assert len(stub.asked) == 3


def test_keys_that_cannot_be_refreshed_are_an_error_and_tried_anew(
    open_account, aws_files, stub
):
    aws_files.config.write_text("[profile prod]\ncredential_process = /no/helper\n")
    account = open_account(profile="prod", region=REGION, endpoint_url=stub.url)
    with pytest.raises(CredentialsUnusable) as caught:
        account.keys("OpenDataChannel")
    assert caught.value.operation == "OpenDataChannel"
    assert "credential_process of profile prod" in caught.value.advice
    with pytest.raises(CredentialsUnusable):
        start(account)
    aws_files.write_keys(ACCESS_KEY, profile="prod")
    found, place = account.keys("OpenDataChannel")
    assert found.access_key == ACCESS_KEY
    assert place.region == REGION


# What must not be seen.


def test_errors_carry_nothing_of_botocores(account, stub):
    stub.answer(
        "StartSession",
        error("InvalidSignatureException", f"key {SECRET_KEY} token {SESSION_TOKEN}"),
    )
    with pytest.raises(CredentialsUnusable) as caught:
        start(account)
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None
    for text in (str(caught.value), repr(caught.value), caught.value.advice):
        assert "canary" not in text


def test_an_unreachable_endpoint_does_not_drag_its_request_along(open_account, keys):
    account = open_account(region=REGION, endpoint_url="http://127.0.0.1:1")
    with pytest.raises(ServiceUnavailable) as caught:
        start(account)
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


def test_botocore_stays_quiet_even_if_everything_is_logged(account, caplog):
    caplog.set_level(logging.DEBUG)
    start(account)
    account.keys("OpenDataChannel")
    assert "canary" not in caplog.text


def test_a_program_that_asks_for_botocores_log_gets_it(account):
    logger = logging.getLogger("botocore")
    before = logger.level
    try:
        logger.setLevel(logging.ERROR)
        start(account)
        assert logger.level == logging.ERROR
    finally:
        logger.setLevel(before)


def test_closing_twice_is_fine(account):
    account.close()
    start(account)
    account.close()
    account.close()


def test_the_outcome_of_each_call_is_noted(stub, keys):
    noted = []
    account = AwsClient(Identity(region=REGION, endpoint_url=stub.url), noted.append)
    start(account)
    stub.answer("StartSession", error("InternalServerError", status=500))
    with pytest.raises(ServiceUnavailable) as caught:
        start(account)
    assert noted == [None, caught.value]
    account.close()


def test_keys_that_the_service_refused_are_no_new_login(aws_files, stub):
    aws_files.write_keys("AKIAFIRST")
    account = AwsClient(Identity(region=REGION, endpoint_url=stub.url))
    assert account.renew(afresh=False).ends_at is None
    stub.answer("StartSession", error("ExpiredTokenException", "too old"))
    with pytest.raises(CredentialsUnusable):
        start(account)
    with pytest.raises(CredentialsUnusable, match="too old"):
        account.renew(afresh=True)
    aws_files.write_keys("AKIASECOND")
    assert account.renew(afresh=True).advice == ""
    stub.answer("StartSession", GRANT)
    start(account)
    assert account.renew(afresh=False).ends_at is None
    account.close()


def test_a_login_that_is_missing_is_said(aws_files, stub):
    noted = []
    account = AwsClient(Identity(region=REGION, endpoint_url=stub.url), noted.append)
    with pytest.raises(CredentialsUnusable, match="Login failed: NoCredentialsError"):
        account.renew(afresh=False)
    aws_files.write_keys("AKIAFIRST")
    account.renew(afresh=False)
    account.close()


def test_the_end_of_a_login_comes_with_what_to_do(keys, stub, monkeypatch):
    ends = datetime.now(UTC) + timedelta(minutes=20)
    monkeypatch.setenv("AWS_CREDENTIAL_EXPIRATION", ends.isoformat())
    account = AwsClient(Identity(region=REGION, endpoint_url=stub.url))
    expiry = account.renew(afresh=False)
    assert expiry.ends_at == pytest.approx(ends.timestamp(), abs=1)
    assert expiry.advice.startswith("start ssmtunneld again with new keys")
    account.close()


def test_the_end_of_an_mfa_session_comes_with_the_login_command(aws_files, stub):
    role = MfaRole("arn:aws:iam::111122223333:role/Bastion", "GAHT12345678")
    ends = datetime.now(UTC) + timedelta(minutes=10)
    keys = dict.fromkeys(("AccessKeyId", "SecretAccessKey", "SessionToken"), "x")
    session = {"Credentials": {**keys, "Expiration": ends.isoformat()}}
    cache_folder().mkdir(parents=True)
    (cache_folder() / f"{role.key}.json").write_text(json.dumps(session))
    identity = Identity(
        region=REGION,
        endpoint_url=stub.url,
        role_arn=role.arn,
        mfa_serial=role.serial,
        tunnel="db",
    )
    account = AwsClient(identity)
    assert account.refreshes == Refreshes()
    expiry = account.renew(afresh=False)
    assert expiry.ends_at == expiry.expires_at
    assert expiry.ends_at == pytest.approx(ends.timestamp(), abs=1)
    assert expiry.advice == "run: ssmtunneld login db"
    start(account)
    assert account.refreshes == Refreshes(renewed=1)
    account.close()


def test_a_role_of_the_configuration_is_used(keys, stub, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", stub.url)
    stub.answer("AssumeRole", error("AccessDenied", "not yours"))
    role = "arn:aws:iam::111122223333:role/Bastion"
    identity = Identity(region=REGION, endpoint_url=stub.url, role_arn=role)
    account = AwsClient(identity)
    with pytest.raises(AwsError):
        start(account)
    assert stub.calls("AssumeRole")[0]["RoleArn"] == role
    assert stub.calls("StartSession") == []
    account.close()


@pytest.mark.parametrize(
    ("service", "operation"),
    [
        ("ec2", "DescribeInstances"),
        ("autoscaling", "DescribeAutoScalingGroups"),
        ("ecs", "ListTasks"),
    ],
)
def test_beside_an_ssm_on_this_machine_its_other_services_are_asked(
    account, stub, service, operation
):
    with pytest.raises(AwsError):
        account.call_service(service, operation)
    assert len(stub.asked) == 1


@pytest.mark.parametrize("name", ["AWS_ENDPOINT_URL_AUTO_SCALING", "AWS_ENDPOINT_URL"])
def test_but_not_where_they_have_an_endpoint_of_their_own(
    account, stub, name, monkeypatch
):
    monkeypatch.setenv(name, "http://127.0.0.1:9")
    with pytest.raises(ServiceUnavailable, match=r"127\.0\.0\.1:9"):
        account.call_service("autoscaling", "DescribeAutoScalingGroups")
    assert stub.asked == []


def test_a_profiles_services_section_is_an_endpoint_of_their_own(
    open_account, stub, keys, monkeypatch, tmp_path
):
    file = tmp_path / "aws"
    file.write_text(
        "[profile p]\nservices = s\n"
        "[services s]\nec2 =\n  endpoint_url = http://127.0.0.1:9\n"
    )
    monkeypatch.setenv("AWS_CONFIG_FILE", str(file))
    monkeypatch.setenv("AWS_PROFILE", "p")
    account = open_account(region=REGION, endpoint_url=stub.url)
    with pytest.raises(ServiceUnavailable, match=r"127\.0\.0\.1:9"):
        account.call_service("ec2", "DescribeInstances")
    assert stub.asked == []


def test_an_ssm_elsewhere_says_nothing_of_them(open_account, keys):
    with ForwardProxy({}) as proxy:
        url = "https://vpce.example"
        account = open_account(region=REGION, endpoint_url=url, proxy=proxy.url())
        with pytest.raises(ServiceUnavailable):
            account.call_service("ec2", "DescribeInstances")
    assert set(proxy.asked) == {f"ec2.{REGION}.amazonaws.com:443"}
