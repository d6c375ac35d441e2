"""The API's requests on their way: proxies, TLS, and failures in botocore's words."""

import json
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
from urllib3 import exceptions

from ssmtunneld.aws.api import http
from ssmtunneld.aws.api.dialing import BODY_LIMIT, Deadline
from ssmtunneld.aws.api.http import (
    AnswerTooIntricate,
    AnswerTooLarge,
    CallTooSlow,
    NotTls,
    ProxyDemandsLogin,
    ProxyForbids,
    ProxyUnusable,
    Sender,
    WebPage,
)
from ssmtunneld.aws.api.network import tls_context
from ssmtunneld.aws.api.proxies import parse_proxy
from ssmtunneld.base.redaction import redact
from ssmtunneld.base.threads import NoThread
from tests.aws.stub import Reply
from tests.support.authority import Authority
from tests.support.forward_proxy import ForwardProxy
from tests.support.odd_server import OddServer, repeating, saying, trickling
from tests.support.threads import no_thread

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
    with pytest.raises(ValueError, match=r"missing\.pem contains no certificates"):
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
            http._manager(through, tls_context(None), deadline) as manager,
        ):
            answer = http._send(manager, request(f"http://{host}"))
    assert answer.text == "answered"
    assert proxy.asked == [f"{host}:80"]


@pytest.mark.parametrize("scheme", ["http", "socks5h", "socks4a"])
def test_a_proxy_that_cannot_be_reached_is_named(scheme):
    url = f"{scheme}://127.0.0.1:1"
    with pytest.raises(ProxyUnusable, match=f"{url} failed"):
        send(f"https://{HOST}", url)


def test_a_proxy_that_refuses_is_quoted():
    with ForwardProxy({}, credentials=("me", "it")) as proxy:
        with pytest.raises(ProxyUnusable, match="407 Proxy Authentication Required"):
            send(f"https://{HOST}", proxy.url(user="me:canary"))
        with pytest.raises(ProxyUnusable) as caught:
            send(f"https://{HOST}", proxy.url("socks5h", user="me:canary"))
    assert "canary" not in str(caught.value)


def test_what_is_no_proxy_is_a_setting_to_correct():
    with pytest.raises(ValueError, match="is not a proxy"):
        send(f"https://{HOST}", "gopher://proxy")


def test_certificates_that_cannot_be_read_are_a_setting_to_correct(tmp_path):
    (tmp_path / "empty.pem").touch()
    with pytest.raises(ValueError, match=r"empty\.pem contains no certificates"):
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
        (http.exceptions.ConnectTimeoutError(), ConnectTimeoutError),
        (http.exceptions.ProtocolError("hung up"), ConnectionClosedError),
        (http.exceptions.HTTPError("odd"), HTTPClientError),
    ],
)
def test_other_failures_have_botocores_names(error, expected):
    assert type(http._as_botocores(error, f"https://{HOST}", None)) is expected


@pytest.mark.parametrize("allowed", [0, 1])
def test_where_no_thread_can_be_started_it_is_not_the_network_that_is_blamed(allowed):
    with no_thread(after=allowed), pytest.raises(NoThread):
        send("http://localhost:1")


OK = b"HTTP/1.1 200 OK\r\n"


@pytest.mark.parametrize(
    "head",
    [
        b"",
        b"HTTP/1.1 2",
        OK,
        OK + b"Content-Length: 9000\r\n\r\n",
        OK + b"\r\n",
        OK + b"Transfer-Encoding: chunked\r\n\r\n",
    ],
)
def test_an_answer_that_trickles_is_too_slow(head):
    with OddServer(trickling(head)) as server:
        with pytest.raises(CallTooSlow, match=r"within 0\.3 s"):
            Sender(None, "", 0.3)(request(server.url))
        assert server.finished.acquire(timeout=30)


@pytest.mark.parametrize(
    ("head", "part"),
    [
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
        (OK + b"\r\n", b"x" * 65536),
        (OK + b"Content-Length: 400000000\r\n\r\n", b"x" * 65536),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n", b"1;" + b"e" * 500 + b"\r\nx\r\n"),
    ],
)
def test_an_answer_without_end_is_too_large(head, part):
    with OddServer(repeating(head, part)) as server:
        with pytest.raises(AnswerTooLarge, match="more than 1048576 bytes"):
            send(server.url)
        assert server.finished.acquire(timeout=30)


def test_an_answer_just_above_the_limit_is_too_large():
    for size, fits in ((BODY_LIMIT, True), (BODY_LIMIT + 1, False)):
        head = OK + b"Content-Length: %d\r\n\r\n" % size
        with OddServer(saying(head, b"x" * size)) as server:
            if fits:
                assert len(send(server.url).content) == BODY_LIMIT
            else:
                with pytest.raises(AnswerTooLarge):
                    send(server.url)


@pytest.mark.parametrize(
    "body",
    [
        b"[" + b"{}," * 20_000 + b"[]," * 20_001 + b"1]",
        b" <a>" + b"<b/>" * 60_000 + b"</a>",
        b"[" + b"9" * 400 + b"]",
        b'<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>',
    ],
    ids=["JSON", "XML", "a number", "an entity"],
)
def test_an_answer_that_would_take_long_to_parse_is_no_answer(body):
    head = OK + b"Content-Length: %d\r\n\r\n" % len(body)
    with (
        OddServer(saying(head, body)) as server,
        pytest.raises(AnswerTooIntricate, match="more than 60000 items"),
    ):
        send(server.url)


@pytest.mark.parametrize(
    "body",
    [
        b'["' + b"{}<>," * 10_000 + b'"]',
        b"<a>" + b"<b>1, 2, [3], {4}</b>" * 29_000 + b"</a>",
    ],
)
def test_an_answer_as_full_as_awss_is_taken(body):
    head = OK + b"Content-Length: %d\r\n\r\n" % len(body)
    with OddServer(saying(head, body)) as server:
        assert send(server.url).content == body


@pytest.mark.parametrize("body", [b"<!DOCTYPE html><p>Log in", b" \n<html lang=en>"])
def test_a_page_for_people_is_not_an_answer(body):
    with (
        OddServer(saying(OK + b"Content-Type: text/html\r\n\r\n", body)) as server,
        pytest.raises(WebPage, match="answers with a web page"),
    ):
        send(server.url)


def test_an_endpoint_without_tls_is_told_apart_from_one_that_is_not_trusted():
    def speak_plainly(connection, _over):
        connection.recv(65536)
        connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    with OddServer(speak_plainly) as server, pytest.raises(NotTls):
        send(server.url.replace("http:", "https:"))


@pytest.mark.parametrize(
    ("answer", "kind", "words"),
    [
        (b"SSH-2.0-OpenSSH_9.6\r\n", ProxyUnusable, "the answer is not HTTP"),
        (b"HTTP/1.1 407 No\r\n\r\n", ProxyDemandsLogin, "the proxy answered 407 No"),
        (b"HTTP/1.1 403\r\n\r\n", ProxyForbids, "the proxy answered 403"),
        (
            b"HTTP/1.1 502 \x1b[31mred\r\n\r\n",
            ProxyUnusable,
            "the proxy answered 502 red",
        ),
        (b"", ProxyUnusable, "closed without an answer"),
    ],
)
def test_a_proxy_that_says_anything_is_told_in_a_sentence(answer, kind, words):
    with OddServer(saying(answer)) as server:
        with pytest.raises(kind, match=words) as caught:
            send(f"https://{HOST}", f"http://me:canary@127.0.0.1:{server.port}")
        assert "canary" not in str(caught.value)
        assert type(caught.value) is kind


def test_a_proxy_that_gives_no_reason_leads_on():
    # "HTTP/1.1 200" without a reason phrase, as some proxies answer to CONNECT.
    with (
        OddServer(saying(b"HTTP/1.1 200\r\n\r\n", b"no TLS behind it")) as server,
        pytest.raises(SSLError),
    ):
        send(f"https://{HOST}", f"http://127.0.0.1:{server.port}")


@pytest.mark.parametrize(
    ("head", "part"),
    [
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
        (b"HTTP/1.1 200 OK\r\n", b"X-More: x\r\n"),
        (b"", b"x" * 65536),
    ],
)
def test_a_proxy_that_talks_without_end_is_given_up(head, part):
    with OddServer(repeating(head, part)) as server, pytest.raises(ProxyUnusable):
        send(f"https://{HOST}", f"http://127.0.0.1:{server.port}")


def test_a_socks_proxy_that_trickles_is_given_up():
    with OddServer(trickling(b"")) as server:
        sender = Sender(None, f"socks5h://127.0.0.1:{server.port}", 0.3)
        with pytest.raises((ProxyUnusable, CallTooSlow)):
            sender(request(f"http://{HOST}"))


def test_botocores_classes_that_send_themselves_are_served_too(asked):
    assert Sender(None, "").send(request(asked.url)).text == "answered"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("x-amz-sso_bearer_token", "{}"),
        ("X-Amz-Security-Token", "{}"),
        ("Authorization", "{}"),
        ("Authorization", "Bearer {}"),
        ("X-aws-ec2-metadata-token", "{}"),
    ],
)
def test_what_a_request_proves_itself_with_is_a_secret(asked, name, text):
    secret = f"Vt5{name[-9:]}+{len(text)}" * 3
    Sender(None, "").send(request(asked.url, **{name: text.format(secret)}))
    assert redact(f"it says {secret}") == "it says ***"


def test_a_signature_names_its_keys_and_is_none(asked):
    words = "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20260101/eu-west-1/ssm"
    Sender(None, "").send(request(asked.url, Authorization=words))
    assert redact(words) == words


def test_what_renews_a_login_is_a_secret(asked):
    secret = "Jw8/renewal+" * 3
    body = json.dumps({"refreshToken": secret}).encode()
    asking = AWSRequest("POST", f"{asked.url}/token", data=body).prepare()
    Sender(None, "").send(asking)
    assert redact(f"it says {secret}") == "it says ***"


def test_words_about_a_failure_quote_no_value():
    odd = exceptions.ProtocolError("Connection broken: canary", ValueError("canary"))
    assert http._words(odd) == "ValueError"
    assert http._words(exceptions.HTTPError("canary")) == "HTTPError"
