"""Proxies, private authorities and endpoints: a real daemon with the public names.

No endpoint is configured in most of these tests: the daemon asks for the names that it
would ask for in production, and only the proxy knows that they lead to an emulator.
"""

import asyncio
import json
import socket
from contextlib import contextmanager

import pytest

from tests.integration.processes import await_line, await_port, launch, running
from tests.integration.world import (
    ACCESS_KEY,
    PATIENCE,
    SECRET_KEY,
    configuration,
    destination,
    echo,
    echoes,
    emulator,
    has_ipv6,
    port_of,
    table,
    tunnel,
)
from tests.integration.world import running as daemon
from tests.support.authority import Authority
from tests.support.canary import leaks
from tests.support.forward_proxy import ForwardProxy

REGION = "eu-west-1"
API = f"ssm.{REGION}.amazonaws.com"
DATA = f"ssmmessages.{REGION}.amazonaws.com"
JSON = ("--log-format", "json", "--log-level", "debug")
PROXIES = ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY")
PASSWORD = "cpw7Kd2Lm9Qx4Rt6Vn8Zb3"
"""A canary. In a URL, ``@`` and ``:`` must be escaped."""


@pytest.fixture(scope="module")
def public(tmp_path_factory):
    """The authority that has signed AWS's certificates; the system trusts it."""
    return Authority(tmp_path_factory.mktemp("public"), "public")


@pytest.fixture(scope="module")
def private(tmp_path_factory):
    """The authority of the company whose gateway inspects TLS."""
    return Authority(tmp_path_factory.mktemp("private"), "private")


@contextmanager
def service(authority, *options, api=API, data=DATA, listen="127.0.0.1"):
    """Run an emulator that is AWS, and yield its port."""
    certificate, key = authority.issue(api, data, "127.0.0.1", "::1")
    program = launch(
        "emulator",
        "--pace=none",
        "--require-signature",
        f"--listen={f'[{listen}]' if ':' in listen else listen}:0",
        f"--tls-cert={certificate}",
        f"--tls-key={key}",
        *options,
        AWS_ACCESS_KEY_ID=ACCESS_KEY,
        AWS_SECRET_ACCESS_KEY=SECRET_KEY,
    )
    try:
        found = program.wait_for(r"listening on https://\S+:(\d+)")
        yield int(found[1])
    finally:
        program.kill()


def as_aws(authority, *, api=API, data=DATA):
    """Run an emulator whose sessions have the public names."""
    return service(authority, f"--stream-endpoint=wss://{data}", api=api, data=data)


def surroundings(public, **environ):
    """Return the environment of a daemon whose system trusts ``public``."""
    usual = dict.fromkeys(("NO_PROXY", *PROXIES, "REQUESTS_CA_BUNDLE"), "")
    return {**usual, "SSL_CERT_FILE": str(public.bundle), **environ}


def settings(port, **defaults):
    """Return a configuration with one tunnel to a local port."""
    return "\n".join(
        [
            table("daemon", drain_timeout="1s", start_rate=100),
            table("defaults", **{"region": REGION, "linger": "200ms", **defaults}),
            tunnel("db", port=port),
        ]
    )


async def in_thread(function, *arguments, **facts):
    return await asyncio.to_thread(function, *arguments, **facts)


async def serves(path, environ, **defaults):
    """Say whether bytes come back through a daemon, and return what it logged."""
    over = asyncio.Event()

    async def serve(reader, writer):
        await echo(reader, writer)
        over.set()

    async with destination(serve) as port:
        with running(path, settings(port, **defaults), *JSON, **environ) as program:
            local = await in_thread(await_port, program, "db")
            await in_thread(await_line, program, "session.ready")
            there_and_back = await echoes(local, b"payload" * 20_000)
            async with asyncio.timeout(PATIENCE):
                await over.wait()
            await in_thread(program.stop)
            return there_and_back, program.log()


async def trouble(path, environ, event, **defaults):
    """Return the first line of ``event``, and the tunnel's part of the status."""
    with running(path, settings(1, **defaults), *JSON, **environ) as program:
        line = await in_thread(await_line, program, event)
        await in_thread(await_line, program, "control.bound")
        asked = launch("status", "--json", "--config", path)
        try:
            found = await in_thread(asked.wait_for, r"(?s)\{.*\n\}\n")
        finally:
            asked.kill()
        return line, json.loads(found[0])["tunnels"][0], program.log()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "config.toml"


# A gateway that inspects TLS.


@pytest.mark.parametrize(
    "by", ["AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "profile", "file"]
)
async def test_behind_an_inspecting_proxy_both_ways_trust_the_private_authority(
    public, private, path, tmp_path, by
):
    environ, defaults, bundle = {}, {}, str(private.bundle)
    if by == "file":
        # It wins over the environment.
        environ["AWS_CA_BUNDLE"] = str(public.bundle)
        defaults["ca_bundle"] = bundle
    elif by == "profile":
        (tmp_path / "aws-config").write_text(f"[default]\nca_bundle = {bundle}\n")
    else:
        environ[by] = bundle
    with as_aws(public) as port:
        routes = {API: port, DATA: port}
        inspection = {"inspector": private, "trusts": public.client_context()}
        with ForwardProxy(routes, **inspection) as proxy:
            environ = surroundings(public, HTTPS_PROXY=proxy.url(), **environ)
            assert (await serves(path, environ, **defaults))[0]
    assert set(proxy.asked) == {f"{API}:443", f"{DATA}:443"}


async def test_without_the_authority_the_api_says_which_variable_to_set(
    public, private, path
):
    with as_aws(public) as port:
        inspection = {"inspector": private, "trusts": public.client_context()}
        with ForwardProxy({API: port, DATA: port}, **inspection) as proxy:
            environ = surroundings(public, HTTPS_PROXY=proxy.url())
            line, status, _ = await trouble(path, environ, "session.ended")
    assert "CERTIFICATE_VERIFY_FAILED" in line["reason"]
    assert "AWS_CA_BUNDLE, or in ca_bundle" in line["advice"]
    assert status["state"] == "waiting"
    assert "AWS_CA_BUNDLE" in status["advice"]
    assert set(proxy.asked) == {f"{API}:443"}


async def test_a_data_channel_that_alone_is_inspected_says_so_too(
    public, private, path
):
    with as_aws(public) as port:
        inspection = {"inspector": private, "trusts": public.client_context()}
        with ForwardProxy(
            {API: port, DATA: port}, inspected={DATA}, **inspection
        ) as proxy:
            environ = surroundings(public, HTTPS_PROXY=proxy.url())
            line, status, log = await trouble(path, environ, "link.failed")
    assert line["reason"].startswith(f"cannot reach {DATA}: its certificate is not ")
    assert "AWS_CA_BUNDLE, or in ca_bundle" in line["advice"]
    assert log.count('"link.failed"') == 1
    assert status["state"] == "waiting"
    assert "AWS_CA_BUNDLE" in status["advice"]


async def test_the_gateways_authority_may_be_among_the_systems(private, path):
    with as_aws(private) as port, ForwardProxy({API: port, DATA: port}) as proxy:
        environ = surroundings(private, HTTPS_PROXY=proxy.url())
        assert (await serves(path, environ))[0]


async def test_a_file_of_authorities_that_is_missing_is_named(public, path, tmp_path):
    environ = surroundings(public, AWS_CA_BUNDLE=str(tmp_path / "gone.pem"))
    line, status, _ = await trouble(path, environ, "session.ended")
    assert "AWS_CA_BUNDLE names" in line["reason"]
    assert "gone.pem" in line["reason"]
    assert status["state"] == "failed"


# Proxies.


@pytest.mark.parametrize("phrase", ["", " "])
async def test_both_ways_go_through_a_proxy_without_a_reason_phrase(
    public, path, phrase
):
    with as_aws(public) as port:
        routes = {API: port, DATA: port}
        with ForwardProxy(routes, phrase=phrase) as proxy:
            environ = surroundings(public, HTTPS_PROXY=proxy.url())
            assert (await serves(path, environ))[0]
    assert set(proxy.asked) == {f"{API}:443", f"{DATA}:443"}


async def test_a_session_that_takes_the_service_twenty_seconds_is_used(public, path):
    slow = (f"--stream-endpoint=wss://{DATA}", "--fault=start-delay=20s")
    with (
        service(public, *slow, api=API, data=DATA) as port,
        ForwardProxy({API: port, DATA: port}) as proxy,
    ):
        environ = surroundings(public, HTTPS_PROXY=proxy.url())
        echoed, log = await serves(path, environ)
    assert echoed
    assert "session.ended" not in log
    assert log.count("session.started") == 1


@pytest.mark.parametrize("scheme", ["http", "socks5h"])
@pytest.mark.parametrize("variable", ["HTTPS_PROXY", "https_proxy", "ALL_PROXY"])
async def test_both_ways_go_through_a_proxy_that_wants_a_password(
    public, path, scheme, variable
):
    credentials = ("me", f"{PASSWORD}@:/")
    with as_aws(public) as port:
        routes = {API: port, DATA: port}
        with ForwardProxy(routes, credentials=credentials) as proxy:
            url = proxy.url(scheme, f"me:{PASSWORD}%40%3A%2F")
            environ = surroundings(public) | {variable: url}
            if variable == "https_proxy":
                del environ["HTTPS_PROXY"]
            there_and_back, log = await serves(path, environ)
    assert there_and_back
    assert set(proxy.asked) == {f"{API}:443", f"{DATA}:443"}
    assert proxy.refused == 0
    assert not leaks(log, PASSWORD)


@pytest.mark.parametrize("scheme", ["http", "socks5h"])
async def test_a_proxy_that_refuses_is_named_without_its_password(public, path, scheme):
    with ForwardProxy({}, credentials=("me", "another")) as proxy:
        url = proxy.url(scheme, f"me:{PASSWORD}")
        environ = surroundings(public, HTTPS_PROXY=url)
        line, status, log = await trouble(path, environ, "session.ended")
    assert f"{proxy.url(scheme)} failed" in line["reason"]
    assert "HTTPS_PROXY" in status["advice"]
    assert proxy.refused
    assert not leaks(log + json.dumps(status), PASSWORD)


async def test_a_proxy_that_refuses_the_data_channel_alone_is_named(public, path):
    with as_aws(public) as port, ForwardProxy({API: port}) as proxy:
        url = proxy.url(user=f"me:{PASSWORD}")
        environ = surroundings(public, HTTPS_PROXY=url)
        line, status, log = await trouble(path, environ, "link.failed")
    assert f"cannot reach {DATA}: through {proxy.url()}: " in line["reason"]
    assert "502" in line["reason"]
    assert "HTTPS_PROXY" in line["advice"]
    assert not leaks(log + json.dumps(status), PASSWORD)


async def test_a_proxy_of_the_configuration_wins_over_the_environments(public, path):
    with as_aws(public) as port, ForwardProxy({API: port, DATA: port}) as proxy:
        environ = surroundings(public, HTTPS_PROXY="http://127.0.0.1:9", NO_PROXY="*")
        assert (await serves(path, environ, proxy=proxy.url()))[0]
    assert set(proxy.asked) == {f"{API}:443", f"{DATA}:443"}


async def test_no_proxy_holds_for_both_ways(public, path):
    with service(public) as port, ForwardProxy({}) as proxy:
        # Names that lead to this machine, but are not known as loopback.
        api = data = "127.0.0.1.example.invalid"
        environ = surroundings(public, HTTPS_PROXY=proxy.url(), NO_PROXY=".invalid")
        defaults = {
            "endpoint_url": f"https://{api}:{port}",
            "ssmmessages_endpoint": f"{data}:{port}",
        }
        _, status, _ = await trouble(path, environ, "session.ended", **defaults)
    assert status["state"] == "retrying"
    assert proxy.asked == [], "neither way has asked the proxy"


# Endpoints.


@pytest.mark.parametrize(
    ("environ", "region", "api", "data"),
    [
        (
            {"AWS_USE_FIPS_ENDPOINT": "true"},
            "us-east-1",
            "ssm-fips.us-east-1.amazonaws.com",
            "ssmmessages-fips.us-east-1.amazonaws.com",
        ),
        (
            {"AWS_USE_DUALSTACK_ENDPOINT": "true"},
            "eu-west-1",
            "ssm.eu-west-1.api.aws",
            "ssmmessages.eu-west-1.api.aws",
        ),
        (
            {},
            "cn-north-1",
            "ssm.cn-north-1.amazonaws.com.cn",
            "ssmmessages.cn-north-1.amazonaws.com.cn",
        ),
        (
            {"AWS_USE_FIPS_ENDPOINT": "true"},
            "us-gov-west-1",
            "ssm.us-gov-west-1.amazonaws.com",
            "ssmmessages.us-gov-west-1.amazonaws.com",
        ),
        (
            {},
            "us-iso-east-1",
            "ssm.us-iso-east-1.c2s.ic.gov",
            "ssmmessages.us-iso-east-1.c2s.ic.gov",
        ),
    ],
)
async def test_kinds_of_endpoints_are_asked_for_by_their_names(
    public, path, environ, region, api, data
):
    with (
        as_aws(public, api=api, data=data) as port,
        ForwardProxy({api: port, data: port}) as proxy,
    ):
        environ = surroundings(public, HTTPS_PROXY=proxy.url(), **environ)
        assert (await serves(path, environ, region=region))[0]
    assert set(proxy.asked) == {f"{api}:443", f"{data}:443"}


async def test_a_profile_chooses_kinds_of_endpoints(public, path, tmp_path):
    api, data = "ssm-fips.us-east-1.api.aws", "ssmmessages-fips.us-east-1.api.aws"
    profile = "[default]\nuse_fips_endpoint = true\nuse_dualstack_endpoint = true\n"
    (tmp_path / "aws-config").write_text(profile)
    with (
        as_aws(public, api=api, data=data) as port,
        ForwardProxy({api: port, data: port}) as proxy,
    ):
        environ = surroundings(public, HTTPS_PROXY=proxy.url())
        assert (await serves(path, environ, region="us-east-1"))[0]
    assert set(proxy.asked) == {f"{api}:443", f"{data}:443"}


@pytest.mark.parametrize("by", ["file", "environment", "services"])
async def test_private_endpoints_get_signed_requests_with_all_of_the_path(
    public, path, tmp_path, by
):
    api = "vpce-0a1b.ssm.eu-west-1.vpce.amazonaws.com"
    data = "vpce-0c2d.ssmmessages.eu-west-1.vpce.amazonaws.com"
    environ, defaults = {}, {}
    if by == "file":
        defaults = {"endpoint_url": f"https://{api}", "ssmmessages_endpoint": data}
    elif by == "environment":
        environ = {
            "AWS_ENDPOINT_URL_SSM": f"https://{api}",
            "AWS_ENDPOINT_URL_SSMMESSAGES": f"https://{data}:443",
        }
    else:
        (tmp_path / "aws-config").write_text(
            "[default]\nservices = private\n[services private]\n"
            f"ssm =\n  endpoint_url = https://{api}\n"
            f"ssmmessages =\n  endpoint_url = https://{data}\n"
        )
    # StreamUrl has the public name, as it always has (protocol 1.5).
    options = (f"--stream-endpoint=wss://{DATA}",)
    with (
        service(public, *options, api=api, data=data) as port,
        ForwardProxy({api: port, data: port}) as proxy,
    ):
        environ = surroundings(public, HTTPS_PROXY=proxy.url(), **environ)
        there_and_back, log = await serves(path, environ, **defaults)
    assert there_and_back
    assert set(proxy.asked) == {f"{api}:443", f"{data}:443"}
    assert "signature_refused" not in log


async def test_configured_endpoints_can_be_ignored(public, path):
    elsewhere = "https://elsewhere.example"
    with as_aws(public) as port, ForwardProxy({API: port, DATA: port}) as proxy:
        environ = surroundings(
            public,
            HTTPS_PROXY=proxy.url(),
            AWS_ENDPOINT_URL=elsewhere,
            AWS_ENDPOINT_URL_SSMMESSAGES=elsewhere,
            AWS_IGNORE_CONFIGURED_ENDPOINT_URLS="true",
        )
        assert (await serves(path, environ))[0]
    assert set(proxy.asked) == {f"{API}:443", f"{DATA}:443"}


# IPv6.


@pytest.mark.skipif(not has_ipv6(), reason="there is no ::1 here")
async def test_endpoints_may_be_ipv6_addresses(public, path):
    with service(public, listen="::1") as port, ForwardProxy({}) as proxy:
        environ = surroundings(public, HTTPS_PROXY=proxy.url())
        defaults = {
            "endpoint_url": f"https://[::1]:{port}",
            "ssmmessages_endpoint": f"[::1]:{port}",
        }
        assert (await serves(path, environ, **defaults))[0]
    assert proxy.asked == [], "this machine is not looked for behind a proxy"


@pytest.mark.skipif(not has_ipv6(), reason="there is no ::1 here")
async def test_a_proxy_may_have_an_ipv6_address(public, path):
    with (
        as_aws(public) as port,
        ForwardProxy({API: port, DATA: port}, host="::1") as proxy,
    ):
        environ = surroundings(public, HTTPS_PROXY=proxy.url())
        assert (await serves(path, environ))[0]
    assert set(proxy.asked) == {f"{API}:443", f"{DATA}:443"}


@pytest.mark.skipif(not has_ipv6(), reason="there is no ::1 here")
async def test_a_name_may_have_ipv6_addresses_only(
    public, monkeypatch, tmp_path, events
):
    name = "ssm.example.invalid"
    own = socket.getaddrinfo

    def look_up(host, port, family=0, *arguments, **options):
        if host != name:
            return own(host, port, family, *arguments, **options)
        if family == socket.AF_INET:
            raise socket.gaierror(socket.EAI_NONAME, "it has no such address")
        return own("::1", port, socket.AF_INET6, *arguments, **options)

    # What DNS would say: nobody may change it for a test.
    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    for variable in ("AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE"):
        monkeypatch.setenv(variable, str(public.bundle))
    certificate, key = public.issue(name, "::1")
    tls = {"tls_certificate": certificate, "tls_key": key}
    async with (
        emulator(host="::1", http_hosts=(name,), **tls) as aws,
        destination() as port,
    ):
        there = f"{name}:{aws.endpoint_url.rpartition(':')[2]}"
        text = configuration(
            f"https://{there}", tunnel("db", port=port, ssmmessages_endpoint=there)
        )
        async with daemon(text) as running_one:
            assert await echoes(port_of(running_one, "db"), b"payload" * 20_000)
