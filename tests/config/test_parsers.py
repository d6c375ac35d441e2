"""Values as a person writes them."""

import math
import re
from ipaddress import ip_address, ip_network
from os import fsencode
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssmtunneld.config.parsers import (
    LONGEST_DURATION,
    SOCKET_PATH_LIMIT,
    TcpAddress,
    UnixAddress,
    binds,
    expand_home,
    expand_variables,
    format_duration,
    format_keep_alive,
    format_mode,
    format_size,
    names_loopback,
    parse_address,
    parse_duration,
    parse_keep_alive,
    parse_mode,
    parse_network,
    parse_size,
)


@pytest.mark.parametrize(
    ("written", "meant", "canonical"),
    [
        (5432, TcpAddress("localhost", 5432), "localhost:5432"),
        ("5432", TcpAddress("localhost", 5432), "localhost:5432"),
        ("127.0.0.1:5432", TcpAddress("127.0.0.1", 5432), "127.0.0.1:5432"),
        (0, TcpAddress("localhost", 0), "localhost:0"),
        ("10.1.2.3:65535", TcpAddress("10.1.2.3", 65535), "10.1.2.3:65535"),
        ("[::1]:5432", TcpAddress("::1", 5432), "[::1]:5432"),
        ("[0:0::1]:80", TcpAddress("::1", 80), "[::1]:80"),
        ("localhost:5432", TcpAddress("localhost", 5432), "localhost:5432"),
        ("0.0.0.0:1", TcpAddress("0.0.0.0", 1), "0.0.0.0:1"),
        ("unix:/run/x.sock", UnixAddress(Path("/run/x.sock")), "unix:/run/x.sock"),
        (
            "unix:~/x.sock",
            UnixAddress(Path("/home/eve/x.sock")),
            "unix:/home/eve/x.sock",
        ),
    ],
)
def test_an_address_has_one_canonical_spelling(written, meant, canonical):
    address = parse_address(written, Path("/home/eve"))
    assert address == meant
    assert str(address) == canonical
    assert parse_address(canonical) == address
    assert parse_address(address) is address


@pytest.mark.parametrize(
    ("written", "advice"),
    [
        ("::1:5432", 'write IPv6 addresses in brackets, "[::1]:5432"'),
        ("*:5432", 'write "0.0.0.0:5432" for every IPv4 address or "[::]:5432"'),
        (":5432", 'write "5432" for this machine alone, "0.0.0.0:5432" for'),
        ("db.example.com:5432", "neither localhost nor an IP address"),
        ("127.0.0.01:80", 'is read as another address: write "127.0.0.1:80"'),
        ("127.1:80", 'is read as another address: write "127.0.0.1:80"'),
        ("[::ffff:10.0.0.1]:80", 'is an IPv4 address in IPv6: write "10.0.0.1:80"'),
        ("224.0.0.1:80", "is a multicast address, where nobody can listen"),
        ("[ff02::1]:80", "is a multicast address, where nobody can listen"),
        ("255.255.255.255:80", "is the broadcast address, where nobody can listen"),
        ("[127.0.0.1]:80", "IPv6 in brackets"),
        ("127.0.0.1", "is not an address with a port"),
        ("::1", "is not an address with a port"),
        ("a:b:c:d", "is not an address with a port"),
        ("[::1]", "is not an address with a port"),
        ("", "is not an address with a port"),
        (True, "is not an address with a port"),
        (1.5, "is not an address with a port"),
        ({}, "is not an address with a port"),
        (65536, "has no port between 0 and 65535"),
        (-1, "has no port between 0 and 65535"),
        ("127.0.0.1:", "has no port between 0 and 65535"),
        ("127.0.0.1:http", "has no port between 0 and 65535"),
        ("127.0.0.1:\u0665", "has no port between 0 and 65535"),
        ("9" * 5000, "has no port between 0 and 65535"),
        ("unix:", "absolute path"),
        ("unix:x.sock", "absolute path"),
        ("unix:/a\0b", "absolute path"),
        ("unix:~/x", "HOME is not set"),
    ],
)
def test_what_is_no_address_or_ambiguous_gets_advice(written, advice):
    with pytest.raises(ValueError, match=re.escape(advice)):
        parse_address(written)


def test_a_socket_path_may_fill_what_the_system_allows_and_no_more():
    longest = "/" + "ü" * ((SOCKET_PATH_LIMIT - 3) // 2)
    longest += "x" * (SOCKET_PATH_LIMIT - 1 - len(fsencode(longest)))
    assert str(parse_address(f"unix:{longest}")) == f"unix:{longest}"
    with pytest.raises(ValueError, match=f"{SOCKET_PATH_LIMIT + 1} bytes") as caught:
        parse_address(f"unix:{longest}x")
    assert f"allow {SOCKET_PATH_LIMIT}" in str(caught.value)
    assert "ü" not in str(caught.value)


@pytest.mark.parametrize(
    ("host", "local"),
    [
        ("localhost", True),
        ("127.8.9.10", True),
        ("::1", True),
        ("::ffff:127.0.0.1", True),
        ("::ffff:10.0.0.1", False),
        ("0.0.0.0", False),
        ("::", False),
        ("192.168.0.1", False),
    ],
)
def test_loopback_is_what_no_other_machine_can_reach(host, local):
    assert TcpAddress(host, 80).is_loopback is local


def test_localhost_binds_both_families():
    both = [ip_address("127.0.0.1"), ip_address("::1")]
    assert list(binds(TcpAddress("localhost", 80))) == both
    assert list(binds(TcpAddress("10.0.0.1", 80))) == [ip_address("10.0.0.1")]


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST.", "a.localhost", "127.1.1.1"]
)
def test_names_of_loopback_are_recognised(host):
    assert names_loopback(host)


@pytest.mark.parametrize("host", ["localhost.example.com", "notlocalhost", "10.0.0.1"])
def test_other_names_are_not_loopback(host):
    assert not names_loopback(host)


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        ("500ms", 0.5),
        ("30s", 30.0),
        ("5m", 300.0),
        ("1h", 3600.0),
        ("1h30m", 5400.0),
        ("1d1h1m1s1ms", 90061.001),
        ("1.5h", 5400.0),
        ("5m1ms", 300.001),
        ("0s", 0.0),
        ("30", 30.0),
        (30, 30.0),
        (0.25, 0.25),
    ],
)
def test_durations_are_seconds(written, seconds):
    assert parse_duration(written) == seconds


@pytest.mark.parametrize(
    "written",
    [
        "",
        "s",
        "5 m",
        "5M",
        "30m1h",
        "1h1h",
        "-1s",
        "1e3s",
        "5min",
        "\u0665s",
        True,
        None,
        [1],
    ],
)
def test_what_is_no_duration_is_refused(written):
    with pytest.raises(ValueError, match="is not a duration"):
        parse_duration(written)


@pytest.mark.parametrize(
    "written", [-1, math.nan, math.inf, "367d", 10**400 // 10**380]
)
def test_a_duration_is_neither_negative_nor_longer_than_a_year(written):
    with pytest.raises(ValueError, match="between 0 and 366 days"):
        parse_duration(written)


@given(st.floats(0, LONGEST_DURATION) | st.integers(0, 10**9).map(lambda ms: ms / 1000))
def test_a_written_duration_reads_back_the_same(seconds):
    assert parse_duration(format_duration(seconds)) == seconds


@pytest.mark.parametrize(
    ("seconds", "written"),
    [
        (0.0, "0s"),
        (0.5, "500ms"),
        (300.0, "5m"),
        (90061.001, "1d1h1m1s1ms"),
        (1e-4, 1e-4),
    ],
)
def test_durations_are_written_with_units(seconds, written):
    assert format_duration(seconds) == written


def test_keep_alive_is_a_duration_or_false():
    assert parse_keep_alive(False) is False
    assert parse_keep_alive("5m") == 300.0
    assert format_keep_alive(False) is False
    assert format_keep_alive(300.0) == "5m"
    for written in (True, 0, "0s", "never"):
        with pytest.raises(ValueError, match=r"should|is not a duration"):
            parse_keep_alive(written)


@pytest.mark.parametrize(
    ("written", "size_bytes"),
    [
        ("64KiB", 65536),
        ("8 MiB", 8 << 20),
        ("1GiB", 1 << 30),
        ("1MB", 10**6),
        ("1kB", 1000),
        ("2GB", 2 * 10**9),
        ("1.5KiB", 1536),
        ("512B", 512),
        ("512", 512),
        (4096, 4096),
    ],
)
def test_sizes_are_bytes(written, size_bytes):
    assert parse_size(written) == size_bytes


@pytest.mark.parametrize("written", ["", "MiB", "1 TB", "-1B", "1mib", True, 1.5, None])
def test_what_is_no_size_is_refused(written):
    with pytest.raises(ValueError, match="is not a size"):
        parse_size(written)


def test_a_size_is_a_whole_number_of_bytes():
    with pytest.raises(ValueError, match="whole number of bytes"):
        parse_size("0.3KiB")


@given(st.integers(0, 10**12))
def test_a_written_size_reads_back_the_same(size_bytes):
    assert parse_size(format_size(size_bytes)) == size_bytes


@pytest.mark.parametrize("written", ["0600", "600", "0o600"])
def test_a_mode_is_octal_text(written):
    assert parse_mode(written) == 0o600
    assert format_mode(0o600) == "0600"


@pytest.mark.parametrize("written", [600, 0o600, "0o", "0900", "01600", "rw", "", True])
def test_what_is_no_octal_text_is_no_mode(written):
    with pytest.raises(ValueError, match="write it as octal text"):
        parse_mode(written)


@pytest.mark.parametrize("written", ["0000", "0066", "0400", "0277"])
def test_a_mode_does_not_lock_its_owner_out(written):
    with pytest.raises(ValueError, match="owner"):
        parse_mode(written)


def test_networks_are_read_in_both_families():
    assert parse_network("10.0.0.0/8") == ip_network("10.0.0.0/8")
    assert parse_network("fd00::/8") == ip_network("fd00::/8")
    assert parse_network("10.1.2.3") == ip_network("10.1.2.3/32")
    assert parse_network(ip_network("fd00::/8")) == ip_network("fd00::/8")


@pytest.mark.parametrize(
    "written", ["", "10.0.0.0/33", "example.com", 10, None, "1.2.3"]
)
def test_what_is_no_network_is_refused(written):
    with pytest.raises(ValueError, match="is not a network"):
        parse_network(written)


def test_a_network_with_bits_after_its_prefix_is_corrected_in_the_message():
    with pytest.raises(ValueError, match=r'write "10\.0\.0\.0/8"'):
        parse_network("10.1.0.0/8")


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("plain", "plain"),
        ("${A}", "one"),
        ("x-${A}-${B_2}-y", "x-one-two-y"),
        ("$${A}", "${A}"),
        ("$A $ $$", "$A $ $$"),
        ("${NESTED}", "${A}"),
        ("${EMPTY}", ""),
    ],
)
def test_variables_are_replaced_once(written, meant):
    environ = {"A": "one", "B_2": "two", "NESTED": "${A}", "EMPTY": ""}
    assert expand_variables(written, environ) == meant


def test_a_variable_that_is_not_set_is_named():
    with pytest.raises(ValueError, match="the environment variable NOPE is not set"):
        expand_variables("${NOPE}", {})


@pytest.mark.parametrize("written", ["${", "${}", "${a b}", "${1}", "x${A"])
def test_an_unfinished_variable_is_refused(written):
    with pytest.raises(ValueError, match="literal"):
        expand_variables(written, {"A": "one"})


def test_only_a_leading_tilde_and_slash_means_home():
    home = Path("/home/eve")
    assert expand_home("~/a", home) == home / "a"
    assert expand_home("a~/b", home) == Path("a~/b")
    assert expand_home("~bob/b", home) == Path("~bob/b")
