"""Patterns of destinations: what they allow, and above all what they do not."""

import fnmatch

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ssmtunneld.config.destinations import Destination, allowed, parse_pattern


def allows(pattern, host, port):
    return parse_pattern(pattern).allows(Destination.of(host, port))


@pytest.mark.parametrize(
    ("pattern", "host", "port"),
    [
        ("db.local:5432", "db.local", 5432),
        ("db.local:5432", "DB.Local.", 5432),
        ("DB.local.:5432", "db.local", 5432),
        ("*.corp.test:443", "a.b.corp.test", 443),
        ("db-*.corp:1-9", "db-7.corp", 9),
        ("a*b*c:*", "abxbc", 1),
        ("*:*", "anything", 65535),
        ("*:80", "10.1.2.3", 80),
        ("*:80", "fd00::1", 80),
        ("10.0.0.0/8:*", "10.255.0.1", 22),
        ("10.0.0.0/8:*", "::ffff:10.0.0.1", 22),
        ("10.1.2.3:22", "10.1.2.3", 22),
        ("[fd00::/8]:8000-8999", "FD00::1", 8999),
        ("[::1]:1", "0:0:0:0:0:0:0:1", 1),
    ],
)
def test_what_a_pattern_says_is_allowed(pattern, host, port):
    assert allows(pattern, host, port)


@pytest.mark.parametrize(
    ("pattern", "host", "port"),
    [
        ("db.local:5432", "db.local", 5433),
        ("db.local:5432", "xdb.local", 5432),
        ("*.corp.test:443", "corp.test", 443),
        ("*.corp.test:443", "evil.test", 443),
        ("*.corp.test:443", "a.corp.test.evil.test", 443),
        ("a*a:*", "a", 1),
        ("a*b*c:*", "acb", 1),
        ("a*bc*c:*", "abc", 1),
        ("10.0.0.0/8:*", "11.0.0.1", 22),
        ("10.0.0.0/8:*", "fd00::1", 22),
        ("10.0.0.0/8:*", "10.evil.test", 22),
        ("*-3:*", "10.1.2.3", 22),
        ("db-*:*", "fd00::1", 22),
    ],
)
def test_nothing_else_is(pattern, host, port):
    assert not allows(pattern, host, port)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (7, "is not a destination"),
        ("", "is not a destination"),
        ("db.local", "is not a destination"),
        (":443", "is not a destination"),
        ("db.local:", "has no port"),
        ("db.local:http", "has no port"),
        ("db.local:1-", "has no port"),
        ("db.local:0", "between 1 and 65535"),
        ("db.local:65536", "between 1 and 65535"),
        ("db.local:9-8", "lowest first"),
        ("fd00::1:443", "without brackets"),
        ("[10.0.0.0/8]:1", "brackets, which are for IPv6"),
        ("[nonsense]:1", "is not a network"),
        ("10.0.0.1/8:1", "bits set after its prefix"),
        ("10.0.0:1", "is not a network"),
        ("10.*:1", "write a network"),
        ("*.3:1", "write a network"),
        ("a b:1", "has no host"),
        ("a?:1", "has no host"),
        ("-a:1", "has no host"),
        ("x" * 254 + ":1", "has no host"),
        ("user@host:1", "has no host"),
    ],
)
def test_what_is_no_pattern_is_told(text, complaint):
    with pytest.raises(ValueError, match=complaint):
        parse_pattern(text)


@pytest.mark.parametrize(
    "text",
    [
        "db.local:5432",
        "*:*",
        "*.corp.test:8000-8999",
        "10.0.0.0/8:*",
        "10.1.2.3:22",
        "[fd00::/8]:1",
        "[fd00::1]:1",
    ],
)
def test_a_pattern_is_spelled_as_it_was(text):
    assert str(parse_pattern(text)) == text
    assert parse_pattern(parse_pattern(text)) == parse_pattern(text)


@pytest.mark.parametrize(
    ("host", "port", "complaint"),
    [
        ("a", 0, "port"),
        ("a", 65536, "port"),
        ("", 1, "host"),
        ("a b", 1, "host"),
        ("a\n", 1, "host"),
        ("a:b", 1, "host"),
        ("b\xfccher", 1, "host"),
        ("a/../b", 1, "host"),
        ("${x}", 1, "host"),
        ("x" * 254, 1, "host"),
        ("fe80::1%eth0", 1, "zone"),
        ("127.1", 1, "not in full"),
        ("2130706433", 1, "not in full"),
    ],
)
def test_what_is_no_destination_is_refused(host, port, complaint):
    with pytest.raises(ValueError, match=complaint):
        Destination.of(host, port)


def test_a_destination_is_spelled_in_one_way():
    assert str(Destination.of("DB.Local", 1)) == "db.local:1"
    assert str(Destination.of("::ffff:10.0.0.1", 1)) == "10.0.0.1:1"
    assert str(Destination.of("FD00:0::1", 1)) == "[fd00::1]:1"


@pytest.mark.parametrize(
    ("host", "loopback"),
    [("localhost", True), ("127.0.0.2", True), ("::1", True), ("10.0.0.1", False)],
)
def test_the_target_itself_is_recognised(host, loopback):
    assert Destination.of(host, 1).is_loopback is loopback


def test_any_of_the_patterns_is_enough():
    patterns = [parse_pattern("a:1"), parse_pattern("b:2")]
    assert allowed(patterns, Destination("b", 2))
    assert not allowed(patterns, Destination("b", 1))
    assert not allowed([], Destination("b", 1))


@given(
    st.text("ab*", min_size=1, max_size=8).filter(lambda glob: glob.strip("*")),
    st.text("ab", min_size=1, max_size=10),
)
@example("a*", "a")
def test_a_glob_means_what_a_shell_would_mean(glob, name):
    expected = fnmatch.fnmatchcase(name, glob)
    assert allows(f"{glob}:*", name, 1) is expected
