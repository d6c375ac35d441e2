"""Recognition of requests that a foreign web page makes."""

import pytest

from ssmtunneld.base.web_origin import (
    comes_from_elsewhere,
    host_of,
    names_server,
    parse_ip,
)


@pytest.mark.parametrize(
    "header",
    [
        "localhost",
        "LOCALHOST:80",
        "localhost.:80",
        "a.localhost",
        "127.0.0.1:4566",
        "127.9.9.9",
        "[::1]:80",
        "[::ffff:127.0.0.1]",
        "10.1.2.3:80",
        "box.example.com:80",
    ],
)
def test_names_of_its_own_are_the_servers(header):
    assert names_server(header, "10.1.2.3", {"box.example.com"})


@pytest.mark.parametrize(
    "header",
    ["", "evil.example", "10.1.2.4", "127.0.0.1.evil.example", "a:b:c", "[::2]", "::1"],
)
def test_any_other_name_may_be_somebody_elses(header):
    assert not names_server(header, "10.1.2.3", {"box.example.com"})


def test_a_unix_socket_has_no_address():
    assert not names_server("10.1.2.3", None)
    assert names_server("localhost", None)


@pytest.mark.parametrize(
    ("origin", "site"),
    [
        (None, None),
        (None, "none"),
        (None, "same-origin"),
        ("http://127.0.0.1:80", None),
        ("HTTPS://127.0.0.1:80", "same-origin"),
    ],
)
def test_a_program_and_the_servers_own_page_are_not_elsewhere(origin, site):
    assert not comes_from_elsewhere("127.0.0.1:80", origin, site)


@pytest.mark.parametrize(
    ("origin", "site"),
    [
        ("null", None),
        ("", None),
        ("http://evil.example", None),
        ("http://127.0.0.1:81", None),
        ("http://127.0.0.1", None),
        ("file://127.0.0.1:80", None),
        ("http://127.0.0.1:80.evil.example", None),
        (None, "cross-site"),
        (None, "same-site"),
        (None, "anything new"),
        ("http://127.0.0.1:80", "cross-site"),
    ],
)
def test_everything_else_is_elsewhere(origin, site):
    assert comes_from_elsewhere("127.0.0.1:80", origin, site)


@pytest.mark.parametrize(
    ("header", "host"),
    [("A.b:80", "a.b"), ("[FD00::1]:9", "fd00::1"), ("a b", "a b"), ("a:b", None)],
)
def test_a_host_is_taken_out_of_its_header(header, host):
    assert host_of(header) == host


def test_mapped_addresses_are_the_ones_that_they_map():
    assert str(parse_ip("::ffff:10.0.0.1")) == "10.0.0.1"
    assert str(parse_ip("fe80::1%eth0")) == "fe80::1"
    assert parse_ip("ten") is None
