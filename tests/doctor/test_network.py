"""The way to AWS's endpoints: direct, and through a proxy."""

import base64
import http.server
import socket
import socketserver
import threading
from contextlib import contextmanager

import pytest

from ssmtunneld.aws.client import AwsLocation
from ssmtunneld.doctor import network
from ssmtunneld.doctor.report import Broken, Skipped


def place(ssm, data=None, region="eu-west-1"):
    return AwsLocation(region, ssm, data)


def endpoints(ssm, data=None, **options):
    chosen = {"fips": False, "dual_stack": False, **options}
    return network.endpoints(place(ssm, data), **chosen)


@contextmanager
def serving(handler):
    """Serve on a port of loopback, which is yielded."""
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(
            target=server.serve_forever, kwargs={"poll_interval": 0.01}
        )
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


class Proxy(http.server.BaseHTTPRequestHandler):
    """Lets those through who know the password, to loopback whatever they name."""

    asked = ()
    target = 0

    def do_CONNECT(self):
        type(self).asked += (self.path,)
        expected = "Basic " + base64.b64encode(b"me:p@ss").decode()
        if self.headers["Proxy-Authorization"] != expected:
            self.send_error(407)
            return
        self.send_response(200)
        self.end_headers()
        if not self.target:
            return
        with socket.create_connection(("127.0.0.1", self.target)) as there:
            self._pump(there)

    def _pump(self, there):
        back = threading.Thread(target=self._copy, args=(there, self.connection))
        back.start()
        self._copy(self.connection, there)
        back.join()

    def _copy(self, source, sink):
        try:
            while data := source.recv(4096):
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            return  # the other end has gone

    def log_message(self, *args):
        pass


@pytest.fixture
def environment(surgery, monkeypatch):
    """An environment without proxies."""
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


def test_an_emulator_is_one_endpoint():
    (only,) = endpoints("http://127.0.0.1:4566")
    assert (str(only), only.encrypted) == ("127.0.0.1:4566", False)


@pytest.mark.parametrize(
    ("options", "host"),
    [
        ({}, "ssmmessages.eu-west-1.amazonaws.com"),
        ({"fips": True}, "ssmmessages-fips.eu-west-1.amazonaws.com"),
        ({"dual_stack": True}, "ssmmessages.eu-west-1.api.aws"),
    ],
)
def test_the_data_channels_host_is_known_beforehand(environment, options, host):
    ssm, data = endpoints("https://ssm.eu-west-1.amazonaws.com", **options)
    assert (ssm.service, data.service) == ("ssm", "ssmmessages")
    assert (data.host, data.port, data.encrypted) == (host, 443, True)
    assert network.check_proxies([ssm]) == "none for ssm"


def test_an_override_is_looked_at_instead(environment):
    _, data = endpoints("https://ssm.example.internal", "wss://[::1]:8443")
    assert str(data) == "[::1]:8443"


def test_a_proxy_of_the_environment_is_asked_with_its_password(environment):
    class Seen(Proxy):
        pass

    with serving(Seen) as port:
        environment.setenv("HTTPS_PROXY", f"http://me:p%40ss@127.0.0.1:{port}")
        found = endpoints("https://ssm.example.internal", "wss://data.example.internal")
        words = network.check_proxies(found)
    proxy = f"http://127.0.0.1:{port}"
    assert words == f"{proxy} for ssm, {proxy} for ssmmessages"
    assert Seen.asked == ("ssm.example.internal:443", "data.example.internal:443")


def test_a_proxy_that_refuses_is_named(environment):
    with serving(Proxy) as port:
        environment.setenv("HTTPS_PROXY", f"127.0.0.1:{port}")
        found = endpoints("https://ssm.example.internal")
        with pytest.raises(Broken, match=r"cannot connect to ssm.*407"):
            network.check_proxies(found)


def test_a_proxy_that_is_none_is_broken(environment):
    environment.setenv("HTTPS_PROXY", "ftp://me:canary@proxy.example")
    with pytest.raises(Broken, match=r"ftp://proxy\.example is not a proxy"):
        endpoints("https://ssm.example.internal")


def test_a_proxy_of_the_configuration_wins(environment):
    environment.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    ssm, _ = endpoints("https://ssm.example.internal", proxy="socks5h://127.0.0.1:8")
    assert network.check_proxies([ssm]) == "socks5h://127.0.0.1:8 for ssm"


def test_no_proxy_is_respected(environment):
    environment.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    environment.setenv("NO_PROXY", "example.internal")
    found = endpoints("https://ssm.example.internal", "wss://data.example.internal")
    assert network.check_proxies(found) == "none for ssm, none for ssmmessages"


def test_names_and_connections_are_the_proxys_business(environment):
    environment.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    found = endpoints("https://ssm.example.internal", "wss://data.example.internal")
    for look in (network.resolve, network.connect):
        with pytest.raises(Skipped, match="the proxy"):
            look(found)


def test_a_socks_proxy_is_shown_and_not_looked_at(environment, surgery):
    environment.setenv("HTTPS_PROXY", "socks5://127.0.0.1")
    found = endpoints("https://ssm.example.internal", "wss://127.0.0.1:9")
    words = "socks5://127.0.0.1:1080 for ssm, none for ssmmessages"
    assert network.check_proxies(found) == words
    with pytest.raises(Skipped, match="behind a SOCKS proxy"):
        network.check_certificates(found[:1], surgery.context(None))
    with pytest.raises(Skipped, match="sent no date"):
        network.check_clock(found[0], lambda: None, lambda: 0.0)


def test_certificates_are_seen_through_the_proxy(environment, surgery, certificate):
    cert, key = certificate

    class Through(Proxy):
        pass

    with (
        surgery.open(tls_certificate=cert, tls_key=key),
        serving(Through) as port,
    ):
        Through.target = int(surgery.aws.endpoint_url.rpartition(":")[2])
        environment.setenv("HTTPS_PROXY", f"http://me:p%40ss@127.0.0.1:{port}")
        found = endpoints("https://ssm.example.internal", "wss://data.example.internal")
        with pytest.raises(Broken) as caught:
            network.check_certificates(found, surgery.context(cert))
    assert "Hostname mismatch" in caught.value.text
    assert "AWS_CA_BUNDLE" in caught.value.cure


def test_a_bundle_that_cannot_be_read_is_named(environment, surgery, tmp_path):
    found = endpoints("https://127.0.0.1:9")
    with pytest.raises(Broken, match="No such file") as caught:
        network.check_certificates(found, surgery.context(tmp_path / "none.pem"))
    assert "AWS_CA_BUNDLE" in caught.value.cure


def test_what_speaks_no_tls_is_named(environment, surgery):
    with surgery.open():
        port = surgery.aws.endpoint_url.rpartition(":")[2]
        found = endpoints(f"https://127.0.0.1:{port}")
        with pytest.raises(Broken, match="TLS failed with 127"):
            network.check_certificates(found, surgery.context(None))


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 200 OK\r\n\r\n", b"nonsense\r\n"])
def test_a_host_that_does_not_tell_the_time_is_skipped(environment, answer):
    class Timeless(socketserver.BaseRequestHandler):
        def handle(self):
            self.request.recv(4096)
            self.request.sendall(answer)

    with serving(Timeless) as port:
        (only,) = endpoints(f"http://127.0.0.1:{port}")
        with pytest.raises(Skipped, match="sent no date"):
            network.check_clock(only, lambda: None, lambda: 0.0)
