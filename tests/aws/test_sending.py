"""The API's requests on their way: proxies, TLS, and failures in botocore's words."""

import socket

import pytest
from botocore.awsrequest import AWSRequest
from botocore.exceptions import (
    ConnectionClosedError,
    ConnectTimeoutError,
    EndpointConnectionError,
    HTTPClientError,
    ReadTimeoutError,
    SSLError,
)

from ssmtunneld.aws import sending
from ssmtunneld.aws.dialing import Deadline
from ssmtunneld.aws.network import tls_context
from ssmtunneld.aws.proxies import parse_proxy
from ssmtunneld.aws.sending import ProxyUnusable, Sender
from tests.aws.stub import Reply
from tests.support.authority import Authority
from tests.support.forward_proxy import ForwardProxy

HOST = "service.example"


def request(url, **headers):
    return AWSRequest("POST", url, headers=headers, data=b"Action=Ask").prepare()


def send(url, proxy="", ca_bundle=None, **headers):
    return Sender(ca_bundle, proxy)(request(url, **headers))


@pytest.fixture
def asked(stub):
    stub.answer("Ask", Reply(body="answered"))
    return stub


def test_an_answer_is_botocores(asked):
    response = send(asked.url, **{"X-Text": "text", "X-Bytes": b"bytes"})
    assert (response.status_code, response.text) == (200, "answered")
    (seen,) = asked.asked
    assert seen.headers["connection"] == "close"
    assert (seen.headers["x-text"], seen.headers["x-bytes"]) == ("text", "bytes")


def test_authorities_are_read_only_where_something_needs_them(asked, tmp_path):
    missing = str(tmp_path / "missing.pem")
    assert send(asked.url, ca_bundle=missing).text == "answered"
    with pytest.raises(ValueError, match=r"missing\.pem holds no certificates"):
        send(asked.url.replace("http:", "https:"), ca_bundle=missing)


def test_a_redirect_is_an_answer(stub):
    stub.answer("Ask", Reply(307, "elsewhere"))
    assert send(stub.url).status_code == 307


@pytest.mark.parametrize("scheme", ["socks5h", "socks5"])
def test_a_socks_proxy_leads_on(asked, scheme):
    port = int(asked.url.rpartition(":")[2])
    with ForwardProxy({HOST: port, "127.1.2.3": port}) as proxy:
        host = HOST if scheme == "socks5h" else "127.1.2.3"
        through = parse_proxy(proxy.url(scheme))
        with (
            Deadline(30) as deadline,
            sending._manager(through, tls_context(None), deadline) as manager,
        ):
            answer = sending._send(manager, request(f"http://{host}"))
    assert answer.text == "answered"
    assert proxy.asked == [f"{host}:80"]


@pytest.mark.parametrize("scheme", ["http", "socks5h", "socks4a"])
def test_a_proxy_that_cannot_be_reached_is_named(scheme):
    url = f"{scheme}://127.0.0.1:1"
    with pytest.raises(ProxyUnusable, match=f"{url} does not lead there"):
        send(f"https://{HOST}", url)


def test_a_proxy_that_refuses_is_quoted():
    with ForwardProxy({}, credentials=("me", "it")) as proxy:
        with pytest.raises(ProxyUnusable, match="407 Proxy Authentication Required"):
            send(f"https://{HOST}", proxy.url(user="me:canary"))
        with pytest.raises(ProxyUnusable) as caught:
            send(f"https://{HOST}", proxy.url("socks5h", user="me:canary"))
    assert "canary" not in str(caught.value)


def test_what_is_no_proxy_is_a_setting_to_correct():
    with pytest.raises(ValueError, match="is no proxy"):
        send(f"https://{HOST}", "gopher://proxy")


def test_certificates_that_cannot_be_read_are_a_setting_to_correct(tmp_path):
    (tmp_path / "empty.pem").touch()
    with pytest.raises(ValueError, match=r"empty\.pem holds no certificates"):
        send(f"https://{HOST}", ca_bundle=str(tmp_path / "empty.pem"))


def test_a_certificate_that_is_not_trusted_is_an_ssl_error(tmp_path):
    authority = Authority(tmp_path, "private")
    with (
        ForwardProxy({HOST: 1}, inspector=authority) as proxy,
        pytest.raises(SSLError, match="CERTIFICATE_VERIFY_FAILED"),
    ):
        send(f"https://{HOST}", proxy.url())


def test_nobody_listening():
    with pytest.raises(EndpointConnectionError):
        send("http://127.0.0.1:1")


def test_a_service_that_says_nothing():
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        pytest.raises(ReadTimeoutError, match="no complete answer from"),
    ):
        Sender(None, "", 0.1)(request(f"http://127.0.0.1:{server.getsockname()[1]}"))


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (sending.exceptions.ConnectTimeoutError(), ConnectTimeoutError),
        (sending.exceptions.ProtocolError("hung up"), ConnectionClosedError),
        (sending.exceptions.HTTPError("odd"), HTTPClientError),
    ],
)
def test_other_failures_have_botocores_names(error, expected):
    assert type(sending._as_botocores(error, f"https://{HOST}", None)) is expected
