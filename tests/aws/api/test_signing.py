"""The upgrade's signature: Go's canonical query, botocore's everything else."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import given
from hypothesis import strategies as st

from ssmtunneld.aws.api.signing import (
    canonical_query,
    canonical_request,
    host_header,
    is_presigned,
    upgrade_headers,
)
from ssmtunneld.base.secret import Secret

ACCESS_KEY = "AKIDEXAMPLE"
SECRET_KEY = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
TOKEN = "AQoDYXdzEJr//token=="
NOW = datetime(2025, 1, 2, 3, 4, 5, tzinfo=UTC)
STAMP = "20250102T030405Z"
HOST = "ssmmessages.eu-west-1.amazonaws.com"
PATH = "/v1/data-channel/alice@example.com-0f1e2d3c4b5a69788"


def sign(url, token=TOKEN, now=NOW):
    return upgrade_headers(
        url,
        access_key=ACCESS_KEY,
        secret_key=Secret(SECRET_KEY),
        session_token=None if token is None else Secret(token),
        region="eu-west-1",
        now=now,
    )


def botocores(url, token):
    """Return the headers that botocore's signer adds to ``GET url``."""
    request = AWSRequest("GET", url)
    signer = SigV4Auth(
        Credentials(ACCESS_KEY, SECRET_KEY, token), "ssmmessages", "eu-west-1"
    )
    request.context["timestamp"] = STAMP
    request.headers["X-Amz-Date"] = STAMP
    if token is not None:
        request.headers["X-Amz-Security-Token"] = token
    canonical = signer.canonical_request(request)
    text = signer.string_to_sign(request, canonical)
    signer._inject_signature_to_request(request, signer.signature(text, request))
    return dict(request.headers.items())


def test_a_cell_number_is_signed_as_go_signs_it():
    # The signature was computed with openssl alone, from protocol 2.1's rules.
    url = f"wss://{HOST}{PATH}?role=publish_subscribe&cell-number=A+k/N=="
    assert sign(url) == {
        "Authorization": (
            "AWS4-HMAC-SHA256 "
            "Credential=AKIDEXAMPLE/20250102/eu-west-1/ssmmessages/aws4_request, "
            "SignedHeaders=host;x-amz-date;x-amz-security-token, Signature="
            "92e45553d62095b62c4853fa1674e98f7d3ddc00973d5f3f2263f1d841132ab5"
        ),
        "X-Amz-Date": STAMP,
        "X-Amz-Security-Token": TOKEN,
    }


def test_the_canonical_request_is_what_the_specification_says():
    url = f"wss://{HOST}{PATH}?role=publish_subscribe&cell-number=A+k/N=="
    assert canonical_request(url, {"host": HOST, "x-amz-date": STAMP}) == (
        "GET\n"
        "/v1/data-channel/alice%40example.com-0f1e2d3c4b5a69788\n"
        "cell-number=A%20k%2FN%3D%3D&role=publish_subscribe\n"
        f"host:{HOST}\n"
        f"x-amz-date:{STAMP}\n"
        "\n"
        "host;x-amz-date\n"
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    )


words = st.text("abcXYZ019-_.~", min_size=1, max_size=12)
segments = st.text("abcXYZ019-_.~@+=,%", min_size=1, max_size=12).filter(
    lambda text: text not in {".", ".."}
)


@given(
    st.lists(segments, max_size=4),
    st.lists(st.tuples(words, words), max_size=4),
    st.sampled_from([HOST, f"{HOST}:8443", "127.0.0.1:9000"]),
    st.sampled_from([None, TOKEN]),
)
def test_where_go_and_botocore_agree_so_do_we(path, query, host, token):
    pairs = "&".join(f"{key}={value}" for key, value in query)
    url = f"https://{host}/{'/'.join(path)}?{pairs}"
    ours, theirs = sign(url, token), botocores(url, token)
    assert {name: theirs[name] for name in ours} == ours


@pytest.mark.parametrize(
    ("query", "canonical"),
    [
        ("", ""),
        ("b=2&a=1", "a=1&b=2"),
        ("a=2&a=1", "a=1&a=2"),
        ("a", "a="),
        ("&&a=1&", "a=1"),
        ("a=%2f%41+", "a=%2FA%20"),
        ("a=%e2%82%ac", "a=%E2%82%AC"),
        ("a=%ff", "a=%FF"),
        ("a=1;b=2&c=3", "c=3"),
        ("a=%zz&c=3", "c=3"),
        ("a=1&c=%4", "a=1"),
        # Sorted by what was decoded: "!" comes before "a", "%61" is "a".
        ("b=1&%61=2&%21=3", "%21=3&a=2&b=1"),
        ("x=1=2", "x=1%3D2"),
    ],
)
def test_a_query_is_decoded_sorted_and_encoded_again(query, canonical):
    assert canonical_query(query) == canonical


def test_without_a_session_token_there_is_no_such_header():
    headers = sign(f"wss://{HOST}{PATH}", token=None)
    assert set(headers) == {"Authorization", "X-Amz-Date"}
    assert "SignedHeaders=host;x-amz-date," in headers["Authorization"]


def test_any_time_zone_will_do():
    there = NOW.astimezone(timezone(timedelta(hours=9)))
    assert sign(f"wss://{HOST}/", now=there) == sign(f"wss://{HOST}/")


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("wss://Host.Example/x", "host.example"),
        ("wss://host.example:443/x", "host.example"),
        ("ws://host.example:80/x", "host.example"),
        ("wss://host.example:80/x", "host.example:80"),
        ("ws://127.0.0.1:9000/x", "127.0.0.1:9000"),
        ("ws://[::1]:9000/x", "[::1]:9000"),
        ("wss://[::1]/x", "[::1]"),
    ],
)
def test_the_host_header_leaves_out_a_default_port(url, host):
    assert host_header(url) == host


@pytest.mark.parametrize(
    ("query", "presigned"),
    [
        ("role=publish_subscribe&cell-number=X-Amz-", False),
        ("role=publish_subscribe&X-Amz-Signature=0f", True),
        ("x-amz-date=1", True),
        ("", False),
    ],
)
def test_a_presigned_url_is_known_by_its_parameters(query, presigned):
    assert is_presigned(f"wss://{HOST}{PATH}?{query}") is presigned
