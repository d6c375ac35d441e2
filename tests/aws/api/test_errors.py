"""Every row of protocol 1.7, and botocore's own exceptions, as a tunnel sees them."""

import pytest
from botocore import exceptions as botocore_errors
from botocore.exceptions import ClientError
from botocore.parsers import ResponseParserError

from ssmtunneld.aws.api.endpoints import SettingError
from ssmtunneld.aws.api.errors import CallContext, translate
from ssmtunneld.aws.api.permissions import section
from ssmtunneld.base.secret import Secret
from ssmtunneld.base.service_unit import ServiceUnit
from ssmtunneld.errors import (
    AccessDenied,
    AwsError,
    CredentialsUnusable,
    Recovery,
    RequestRejected,
    ServiceUnavailable,
    ServiceUntrusted,
    SessionGone,
    TargetNotConnected,
    Throttled,
)

TARGET = "i-0182d91e85d69cf00"
LOGIN = "run: aws sso login --profile prod"


def during(operation="StartSession", **changes):
    facts = {
        "region": "eu-west-1",
        "renewal": LOGIN,
        "profile": "prod",
        "target": TARGET,
        "document": "AWS-StartPortForwardingSession",
    }
    return CallContext(operation, **(facts | changes))


def answer(code, message="the words of AWS", status=400, operation="StartSession"):
    response = {
        "Error": {"Code": code, "Message": message},
        "ResponseMetadata": {"HTTPStatusCode": status},
    }
    return ClientError(response, operation)


@pytest.mark.parametrize(
    ("code", "kind", "recovery"),
    [
        ("TargetNotConnected", TargetNotConnected, Recovery.WAIT),
        ("InvalidDocument", RequestRejected, Recovery.STOP),
        ("BadRequest", RequestRejected, Recovery.STOP),
        ("ValidationException", RequestRejected, Recovery.STOP),
        ("InvalidParameters", RequestRejected, Recovery.STOP),
        ("AccessDeniedException", AccessDenied, Recovery.WAIT),
        ("ExpiredTokenException", CredentialsUnusable, Recovery.WAIT),
        ("ExpiredToken", CredentialsUnusable, Recovery.WAIT),
        ("RequestExpired", CredentialsUnusable, Recovery.WAIT),
        ("UnrecognizedClientException", CredentialsUnusable, Recovery.WAIT),
        ("InvalidSignatureException", CredentialsUnusable, Recovery.WAIT),
        ("ThrottlingException", Throttled, Recovery.RESTART),
        ("TooManyRequestsException", Throttled, Recovery.RESTART),
        ("InternalServerError", ServiceUnavailable, Recovery.RESTART),
    ],
)
@pytest.mark.parametrize("operation", ["StartSession", "ResumeSession"])
def test_an_answer_has_its_recovery(code, kind, recovery, operation):
    error = translate(
        answer(code, operation=operation), during(operation, session_id="alice-0f")
    )
    assert type(error) is kind
    assert error.recovery is recovery
    assert str(error) == f"{operation} failed: {code}: the words of AWS"


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (answer("SomethingNew", "Rate exceeded"), Throttled),
        (answer("SomethingNew", status=503), ServiceUnavailable),
        (answer("502", "Bad Gateway", status=502), ServiceUnavailable),
        (answer("403", "Forbidden", status=403), AccessDenied),
        (answer("SomethingNew"), AwsError),
        (ClientError({}, "StartSession"), AwsError),
    ],
)
def test_an_unknown_answer_is_judged_by_its_words_and_status(error, kind):
    refusal = translate(error, during())
    assert type(refusal) is kind
    assert refusal.recovery is not Recovery.STOP


def test_only_a_session_that_does_not_exist_is_gone():
    error = answer(
        "DoesNotExistException", "no such session", operation="ResumeSession"
    )
    gone = translate(error, during("ResumeSession", session_id="alice-0f"))
    assert isinstance(gone, SessionGone)
    assert str(gone) == "session alice-0f cannot be resumed: no such session"
    other = translate(answer("DoesNotExistException"), during())
    assert type(other) is AwsError


@pytest.mark.parametrize(
    ("code", "clock"),
    [("ExpiredTokenException", False), ("InvalidSignatureException", True)],
)
def test_refused_keys_are_renewed_by_logging_in(code, clock):
    advice = translate(answer(code), during()).advice
    assert advice.startswith(LOGIN)
    assert ("clock" in advice) is clock


@pytest.mark.parametrize(
    ("target", "region", "arn"),
    [
        (TARGET, "eu-west-1", f"arn:aws:ec2:eu-west-1:*:instance/{TARGET}"),
        (
            "mi-0182d91e85d69cf00",
            "cn-north-1",
            "arn:aws-cn:ssm:cn-north-1:*:managed-instance/mi-0182d91e85d69cf00",
        ),
        ("ecs:a_b_c1_d2", "eu-west-1", "arn:aws:ecs:eu-west-1:*:task/a_b/c1"),
    ],
)
def test_a_denied_start_names_the_resources_to_allow(target, region, arn):
    advice = translate(
        answer("AccessDeniedException"), during(target=target, region=region)
    ).advice
    assert advice.startswith(f"allow ssm:StartSession on {arn} and arn:aws")
    assert advice.endswith(
        ":ssm:*:*:document/AWS-StartPortForwardingSession "
        f"(see {section('Named instances')})"
    )


def test_a_refusal_that_says_nothing_may_be_a_proxys():
    advice = translate(answer("403", "Forbidden", status=403), during()).advice
    assert advice == "check what answered: a proxy, or the policy of a VPC endpoint"


def test_a_document_that_is_an_arn_is_named_as_it_is():
    arn = "arn:aws:ssm:eu-west-1:111122223333:document/Acme"
    error = translate(answer("AccessDeniedException"), during(document=arn))
    assert f" and {arn} (see" in error.advice


@pytest.mark.parametrize(
    ("operation", "resource"),
    [
        ("ResumeSession", "arn:aws:ssm:*:*:session/${aws:userid}-*"),
        ("TerminateSession", "arn:aws:ssm:*:*:session/${aws:userid}-*"),
        ("DescribeSessions", "*"),
    ],
)
def test_other_denied_operations_name_theirs(operation, resource):
    error = answer("AccessDeniedException", operation=operation)
    advice = translate(error, during(operation)).advice
    assert advice.startswith(f"allow ssm:{operation} on {resource} (see https://")


def test_a_denied_operation_is_told_in_the_services_own_words():
    words = (
        "User: arn:aws:sts::111122223333:assumed-role/Dev/me is not authorized to "
        "perform: ecs:DescribeTasks on resource: arn:aws:ecs:eu-west-1:1:task/a/b"
    )
    error = answer("AccessDeniedException", words, operation="DescribeTasks")
    said = translate(error, during("DescribeTasks", service="ecs"))
    assert words in str(said)
    assert said.advice == (
        "allow ecs:DescribeTasks on arn:aws:ecs:eu-west-1:1:task/a/b "
        f"(see {section('Looking targets up')})"
    )


def test_advice_about_a_policy_is_bounded_and_has_no_secret():
    secret = Secret("canary-secret-key-0123456789")
    words = (
        "not authorized to perform: ssm:StartSession on resource: arn:"
        f"{secret.reveal()}\x1b[31m{'x' * 5000}"
    )
    said = translate(answer("AccessDenied", words), during(secrets=(secret,)))
    assert said.advice.startswith("allow ssm:StartSession on arn:***")
    assert len(said.advice) <= 800
    assert said.advice.isprintable()
    assert "canary" not in said.advice


def test_messages_are_cleaned_and_cut():
    said = translate(answer("Odd\n\x1b[2JCode", "red\x1b[31m\ud800" * 999), during())
    assert said.code == "Odd Code"
    assert said.message.isprintable()
    assert len(said.message) == 300
    said.message.encode()


@pytest.mark.parametrize(
    "response",
    [
        {"Error": [1]},
        {"Error": {"Code": 5, "Message": []}, "ResponseMetadata": 5},
        {"Error": {"Code": "", "Message": None}, "ResponseMetadata": {}},
        {"ResponseMetadata": {"HTTPStatusCode": "500"}, "Error": {"Code": None}},
    ],
)
def test_an_answer_of_wrong_types_is_translated(response):
    error = ClientError({"Error": {}}, "StartSession")
    error.response = response
    said = translate(error, during())
    assert type(said) is AwsError
    assert (said.code, said.message) == ("Unknown", "no reason given")


def test_a_role_that_may_not_be_assumed_is_a_matter_of_policy():
    words = (
        "User: arn:aws:iam::1:user/me is not authorized to perform: sts:AssumeRole on "
        "resource: arn:aws:iam::2:role/Bastion"
    )
    said = translate(answer("AccessDenied", words, operation="AssumeRole"), during())
    assert isinstance(said, CredentialsUnusable)
    assert said.advice == (
        "allow sts:AssumeRole on arn:aws:iam::2:role/Bastion "
        f"(see {section('Assuming a role')})"
    )


def test_a_signature_is_not_shown():
    words = f"Authorization=AWS4-HMAC-SHA256 Credential=x, Signature={'0a' * 32}"
    said = translate(answer("IncompleteSignature", words), during())
    assert "Signature=***" in str(said)
    assert "0a0a" not in str(said)


def test_a_target_without_an_agent_is_to_be_looked_at():
    advice = translate(answer("TargetNotConnected"), during()).advice
    for fact in (TARGET, "eu-west-1", "profile prod", "AmazonSSMManagedInstanceCore"):
        assert fact in advice
    anonymous = translate(answer("TargetNotConnected"), during(profile="", target=""))
    assert anonymous.advice.startswith("check that the target is right")
    assert "profile" not in anonymous.advice
    task = translate(answer("TargetNotConnected"), during(target="ecs:a_b_c"))
    assert "enableExecuteCommand" in task.advice


def test_a_rejected_request_says_which_setting_to_look_at():
    document = translate(answer("InvalidDocument"), during(document="Acme")).advice
    assert document.startswith("check that document Acme exists in eu-west-1")
    other = translate(answer("ValidationException"), during()).advice
    assert other.startswith("check target, host, port")


@pytest.mark.parametrize(
    ("code", "status", "kind"),
    [
        ("AccessDenied", 403, CredentialsUnusable),
        ("ValidationError", 400, CredentialsUnusable),
        ("DoesNotExistException", 400, CredentialsUnusable),
        ("Throttling", 400, Throttled),
        ("InternalFailure", 500, ServiceUnavailable),
    ],
)
def test_what_a_credential_provider_was_denied_never_ends_a_session(code, status, kind):
    error = answer(code, status=status, operation="AssumeRole")
    refusal = translate(error, during("ResumeSession", session_id="alice-0f"))
    assert type(refusal) is kind
    assert refusal.operation == "AssumeRole"
    waits = kind in {Throttled, ServiceUnavailable}
    assert refusal.advice.startswith("wait, " if waits else LOGIN)


MADE = {
    "provider": "sso",
    "error_msg": "went wrong",
    "cred_var": "aws_secret_access_key",
    "profile": "prod",
    "path": "/etc/aws",
    "endpoint_url": "https://ssm.example",
    "proxy_url": "http://proxy.example",
    "error": "cut",
    "report": "Invalid length for parameter Target",
    "msg": "no such endpoint",
    "region_name": "nowhere",
    "service_name": "ssm",
    "value": "x",
    "param": "y",
    "type_name": "z",
}


@pytest.mark.parametrize(
    ("name", "kind", "advice"),
    [
        ("NoCredentialsError", CredentialsUnusable, "aws configure sso --profile prod"),
        ("PartialCredentialsError", CredentialsUnusable, "complete the keys of"),
        ("ProfileNotFound", CredentialsUnusable, "aws configure sso --profile prod"),
        ("ConfigParseError", CredentialsUnusable, "correct the AWS configuration"),
        ("InvalidConfigError", CredentialsUnusable, LOGIN),
        ("UnauthorizedSSOTokenError", CredentialsUnusable, LOGIN),
        ("SSOTokenLoadError", CredentialsUnusable, LOGIN),
        ("TokenRetrievalError", CredentialsUnusable, LOGIN),
        ("RefreshWithMFAUnsupportedError", CredentialsUnusable, LOGIN),
        ("CredentialRetrievalError", CredentialsUnusable, LOGIN),
        ("MetadataRetrievalError", CredentialsUnusable, LOGIN),
        ("LoginRefreshRequired", CredentialsUnusable, LOGIN),
        ("MissingDependencyException", CredentialsUnusable, "botocore[crt]"),
        ("NoRegionError", RequestRejected, "set region"),
        ("UnknownRegionError", RequestRejected, "correct region"),
        ("InvalidRegionError", RequestRejected, "correct region"),
        ("EndpointProviderError", RequestRejected, "AWS_USE_FIPS_ENDPOINT"),
        ("ParamValidationError", RequestRejected, "check target, host, port"),
        ("InvalidProxiesConfigError", RequestRejected, ""),
        ("EndpointConnectionError", ServiceUnavailable, "that region eu-west-1 exists"),
        ("ConnectTimeoutError", ServiceUnavailable, "HTTPS to this endpoint"),
        ("ReadTimeoutError", ServiceUnavailable, ""),
        ("ConnectionClosedError", ServiceUnavailable, ""),
        ("HTTPClientError", ServiceUnavailable, ""),
        ("SSLError", ServiceUnavailable, "AWS_CA_BUNDLE"),
        ("ProxyConnectionError", ServiceUnavailable, "HTTPS_PROXY"),
        ("UnsupportedSignatureVersionError", AwsError, ""),
    ],
)
def test_botocores_exceptions_are_translated(name, kind, advice):
    made = getattr(botocore_errors, name, None)
    if made is None:
        pytest.skip(f"this botocore has no {name} yet")
    fields = MADE | {"signature_version": "v9"}
    refusal = translate(made(**fields), during())
    assert type(refusal) is kind
    assert refusal.code == name
    assert advice in refusal.advice
    assert refusal.recovery is not Recovery.RESUME


@pytest.mark.parametrize(
    ("error", "kind", "advice"),
    [
        (SettingError("x is not a proxy"), RequestRejected, "correct endpoint_url"),
        (ConnectionResetError("cut"), ServiceUnavailable, ""),
        (ResponseParserError("no XML"), ServiceUnavailable, ""),
    ],
)
def test_what_botocore_lets_through_is_translated_too(error, kind, advice):
    refusal = translate(error, during())
    assert type(refusal) is kind
    assert advice in refusal.advice


def test_without_a_region_the_advice_does_not_mention_one():
    error = botocore_errors.EndpointConnectionError(endpoint_url="https://x")
    assert translate(error, during(region="")).advice == "check network and DNS"


def test_a_profile_in_advice_can_be_pasted_into_a_shell():
    odd = during(profile="my prod; x")
    for error in (
        botocore_errors.NoCredentialsError(),
        botocore_errors.ProfileNotFound(profile="my prod; x"),
    ):
        advice = translate(error, odd).advice
        assert "aws configure sso --profile 'my prod; x'" in advice


def test_without_a_profile_the_advice_speaks_of_the_default_one():
    refusal = translate(botocore_errors.NoCredentialsError(), during(profile=""))
    assert "profile default" in refusal.advice


def test_a_service_without_credentials_says_where_its_own_belong():
    missing = botocore_errors.NoCredentialsError()
    assert translate(missing, during()).advice.endswith(
        "or start ssmtunneld where there are credentials"
    )
    unit = ServiceUnit("~/.config/x/environment", "systemctl --user restart x")
    assert translate(missing, during(unit=unit)).advice.endswith(
        ", or write keys to ~/.config/x/environment and run: systemctl --user restart x"
    )


def test_a_refused_signature_does_not_quote_the_signed_request():
    message = (
        "The request signature we calculated does not match. Check your key.\n\n"
        "The Canonical String for this request should have been\n"
        "'POST\n/\nx-amz-security-token:canary-token\n'"
    )
    refusal = translate(answer("InvalidSignatureException", message), during())
    assert refusal.message == (
        "The request signature we calculated does not match. Check your key."
    )


def test_known_secrets_are_struck_out_of_any_message():
    secrets = (Secret("canary-secret-key-0123456789"), Secret("test"))
    message = "your key canary-secret-key-0123456789 fails this test"
    refusal = translate(answer("SomethingNew", message), during(secrets=secrets))
    assert refusal.message == "your key *** fails this test"
    assert "canary" not in repr(during(secrets=secrets))


def test_an_answer_that_cannot_be_read_is_not_quoted():
    error = ResponseParserError("Unable to parse response:\n<SecretAccessKey>canary")
    refusal = translate(error, during())
    assert refusal.message == "the answer is not from AWS"
    assert refusal.code == "UnusableAnswer"


def test_a_proxys_password_is_struck_out():
    error = botocore_errors.ProxyConnectionError(
        proxy_url="http://me:canary@proxy.example:3128"
    )
    message = translate(error, during()).message
    assert message.endswith('"http://***@proxy.example:3128"')


def test_a_certificate_that_is_not_trusted_names_the_variable_to_set():
    why = "[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: self-signed"
    error = translate(
        botocore_errors.SSLError(endpoint_url="https://ssm.example", error=why),
        during(),
    )
    assert type(error) is ServiceUntrusted
    assert error.recovery is Recovery.WAIT
    assert "AWS_CA_BUNDLE, or in ca_bundle" in error.advice
    error = translate(
        botocore_errors.SSLError(endpoint_url="https://ssm.example", error="EOF"),
        during(),
    )
    assert type(error) is ServiceUnavailable
