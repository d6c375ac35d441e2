"""SigV4 of the upgrade, checked against what botocore signs."""

from datetime import UTC, datetime, timedelta

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from multidict import CIMultiDict

from ssmtunneld.base.secret import Secret
from ssmtunneld.emulator.settings import EmulatorSettings
from ssmtunneld.emulator.signature import (
    SignatureRefused,
    canonical_query,
    verify_signature,
)

PATH = "/v1/data-channel/dev@example.com-1?role=publish_subscribe&cell-number=A+k/N=="
AS_GO_SIGNS = PATH.replace("A+k/N==", "A%20k%2FN%3D%3D")


def settings(secret="secret", **more):
    return EmulatorSettings(access_key="AKID", secret_key=Secret(secret), **more)


def signed(path=AS_GO_SIGNS, service="ssmmessages", token=None):
    request = AWSRequest(method="GET", url=f"http://127.0.0.1:8080{path}")
    request.headers["Host"] = "127.0.0.1:8080"
    SigV4Auth(Credentials("AKID", "secret", token), service, "eu-west-1").add_auth(
        request
    )
    return CIMultiDict(request.headers.items())


@pytest.mark.parametrize("token", [None, "session-token"])
def test_what_go_signs_is_accepted(token):
    verify_signature(PATH, signed(token=token), settings())


def test_the_query_is_decoded_and_encoded_again_before_it_is_signed():
    assert (
        canonical_query("role=publish_subscribe&cell-number=A+k/N==")
        == "cell-number=A%20k%2FN%3D%3D&role=publish_subscribe"
    )


def test_the_raw_query_as_botocore_signs_it_is_refused():
    with pytest.raises(SignatureRefused, match="does not match"):
        verify_signature(PATH, signed(PATH), settings())


def test_another_secret_does_not_match():
    with pytest.raises(SignatureRefused, match="does not match"):
        verify_signature(PATH, signed(), settings("other"))


def test_another_key_is_unknown():
    with pytest.raises(SignatureRefused, match="unknown"):
        verify_signature(
            PATH,
            signed(),
            EmulatorSettings(access_key="OTHER", secret_key=Secret("secret")),
        )


def test_without_a_secret_only_the_form_is_checked():
    verify_signature(PATH, signed(PATH), EmulatorSettings())


def test_nothing_signed_is_refused():
    with pytest.raises(SignatureRefused, match="no AWS4-HMAC-SHA256"):
        verify_signature(PATH, {}, settings())


def test_another_service_is_refused():
    with pytest.raises(SignatureRefused, match="signed for ssm,"):
        verify_signature(PATH, signed(service="ssm"), settings())


def test_the_host_must_be_signed():
    headers = signed()
    headers["Authorization"] = headers["Authorization"].replace("host;", "")
    with pytest.raises(SignatureRefused, match="must be signed"):
        verify_signature(PATH, headers, settings())


def test_an_old_signature_is_refused():
    later = settings(signing_clock=lambda: datetime.now(tz=UTC) + timedelta(minutes=16))
    with pytest.raises(SignatureRefused, match="expired"):
        verify_signature(PATH, signed(), later)


def test_a_date_must_be_there():
    headers = signed()
    headers["X-Amz-Date"] = "yesterday"
    with pytest.raises(SignatureRefused, match="malformed"):
        verify_signature(PATH, headers, settings())
