"""The choice of a proxy: variables, exceptions, spellings, and no passwords in text."""

import os

import pytest

from ssmtunneld.aws.api import proxies
from ssmtunneld.aws.api.proxies import is_excepted, parse_proxy, proxy_for
from ssmtunneld.base.secret import Secret

API = "https://ssm.eu-west-1.amazonaws.com"
DATA = "wss://ssmmessages.eu-west-1.amazonaws.com/v1/data-channel/s?role=x"


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    """An environment without proxies; names are lower case unless a test says more."""
    for name in os.environ:
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    return monkeypatch


def shown(url, chosen=None):
    found = proxy_for(url, chosen)
    return None if found is None else str(found)


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, None),
        ({"HTTPS_PROXY": "http://a:1"}, "http://a:1"),
        ({"https_proxy": "http://a:1", "HTTPS_PROXY": "http://b:1"}, "http://a:1"),
        ({"HTTPS_PROXY": "http://a:1", "ALL_PROXY": "http://b:1"}, "http://a:1"),
        ({"ALL_PROXY": "socks5h://b"}, "socks5h://b:1080"),
        ({"all_proxy": "socks5://b:9"}, "socks5://b:9"),
        ({"SOCKS_PROXY": "http://b:9"}, "socks5h://b:9"),
        ({"HTTP_PROXY": "http://a:1"}, None),
        ({"HTTPS_PROXY": "a:3128"}, "http://a:3128"),
        ({"HTTPS_PROXY": ""}, None),
    ],
)
def test_api_and_data_channel_follow_the_same_variables(
    environment, variables, expected
):
    for name, value in variables.items():
        environment.setenv(name, value)
    assert shown(API) == shown(DATA) == expected


def test_what_is_not_encrypted_has_a_variable_of_its_own(environment):
    environment.setenv("HTTP_PROXY", "http://a:1")
    assert shown("http://emulator.example") == shown("ws://emulator.example/x")
    assert shown("http://emulator.example") == "http://a:1"


def test_the_configuration_wins_over_variables(environment):
    environment.setenv("HTTPS_PROXY", "http://a:1")
    environment.setenv("NO_PROXY", "*")
    assert shown(API, "socks5://b:2") == "socks5://b:2"
    assert shown(API, "") is None


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:4566",
        "wss://[::1]:9/x",
        "http://localhost",
        "http://169.254.169.254/latest",
        "http://169.254.170.2/v2/credentials",
        "http://[fd00:ec2::254]/latest",
    ],
)
@pytest.mark.parametrize("chosen", [None, "http://b:2"])
def test_this_machine_and_metadata_are_never_behind_a_proxy(environment, url, chosen):
    environment.setenv("ALL_PROXY", "http://a:1")
    assert proxy_for(url, chosen) is None


def test_no_proxy_is_asked_with_host_and_port(environment):
    environment.setenv("HTTPS_PROXY", "http://a:1")
    environment.setenv("NO_PROXY", "amazonaws.com:443")
    assert shown(API) is None
    assert shown(DATA) is None
    assert shown(f"{API}:8443") == "http://a:1"


def test_the_systems_exceptions_count_where_its_proxies_do(environment):
    environment.setattr(proxies, "getproxies", lambda: {"https": "http://a:1"})
    environment.setattr(proxies, "proxy_bypass", lambda host: host.startswith("ssmm"))
    assert shown(API) == "http://a:1"
    assert shown(DATA) is None


@pytest.mark.parametrize(
    ("exceptions", "covered"),
    [
        ("*", True),
        ("db.internal.example", True),
        ("DB.Internal.Example.", True),
        ("internal.example", True),
        (".internal.example", True),
        ("*.internal.example", True),
        ("ternal.example", False),
        ("x.db.internal.example", False),
        ("other, db.internal.example", True),
        ("other db.internal.example", True),
        ("internal.example:443", True),
        ("internal.example:80", False),
        ("10.0.0.0/8", False),
        ("", False),
        (".", False),
    ],
)
def test_exceptions_for_names(exceptions, covered):
    assert is_excepted("db.internal.example", 443, exceptions) is covered


@pytest.mark.parametrize(
    ("host", "exceptions", "covered"),
    [
        ("10.1.2.3", "10.0.0.0/8", True),
        ("10.1.2.3", "10.1.2.77/24", True),
        ("11.1.2.3", "10.0.0.0/8", False),
        ("10.1.2.3", "fd00::/8", False),
        ("10.1.2.3", "nonsense/8", False),
        ("10.1.2.3", "10.1.2.3", True),
        ("10.1.2.3", "10.1.2.3:443", True),
        ("10.1.2.3", "10.1.2.3:80", False),
        ("10.1.2.3", "2.3", False),
        ("fd00::1", "fd00::/8", True),
        ("fd00::1", "fd00:0::1", True),
        ("fd00::1", "[fd00::1]", True),
        ("fd00::1", "[fd00::1]:443", True),
        ("fd00::1", "[fd00::1]:80", False),
    ],
)
def test_exceptions_for_addresses(host, exceptions, covered):
    assert is_excepted(host, 443, exceptions) is covered


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("http://proxy", "http://proxy:80"),
        ("https://proxy/", "https://proxy:443"),
        ("//proxy:8080", "http://proxy:8080"),
        ("socks://proxy", "socks5h://proxy:1080"),
        ("socks4a://proxy", "socks4a://proxy:1080"),
        ("http://[fd00::1]:3128", "http://[fd00::1]:3128"),
        ("HTTP://Proxy:1", "http://proxy:1"),
    ],
)
def test_spellings_of_a_proxy(text, expected):
    proxy = parse_proxy(text)
    assert (str(proxy), proxy.url.reveal()) == (expected, expected)
    assert proxy.headers == {}


def test_a_password_is_for_the_proxy_alone():
    proxy = parse_proxy("http://m%40e:c%3Anary%2F@proxy:1")
    assert (proxy.user, proxy.password) == ("m@e", Secret("c:nary/"))
    assert proxy.url.reveal() == "http://m%40e:c%3Anary%2F@proxy:1"
    assert proxy.headers == {"Proxy-Authorization": "Basic bUBlOmM6bmFyeS8="}
    assert "nary" not in f"{proxy} {proxy!r}"


def test_a_password_may_be_left_out():
    proxy = parse_proxy("http://me@proxy:1")
    assert proxy.url.reveal() == "http://me:@proxy:1"
    assert proxy.headers == {"Proxy-Authorization": "Basic bWU6"}


def test_who_looks_up_names():
    kinds = ("http", "https", "socks4", "socks4a", "socks5", "socks5h")
    found = {kind: parse_proxy(f"{kind}://p") for kind in kinds}
    assert [k for k in kinds if not found[k].resolves] == ["socks4", "socks5"]
    assert [k for k in kinds if found[k].is_socks] == list(kinds[2:])


@pytest.mark.parametrize(
    "text",
    [
        "ftp://me:canary@proxy",
        "http://me:canary@",
        "http://me:canary@proxy:port",
        "http://me:canary@proxy:99999",
        "http://me:canary@proxy/path",
        "http://me:canary@[::1",
        "me:canary@proxy/path",
        "PROXY me:canary@127.0.0.1:3128",
        "http://me:canary@pro xy",
        "http://me:canary@pro\nxy:3128",
        "http://me:canary@pröxy",
        "",
    ],
)
def test_what_is_no_proxy_is_said_without_its_password(text):
    with pytest.raises(ValueError, match="is not a proxy") as caught:
        parse_proxy(text)
    assert "canary" not in str(caught.value)
