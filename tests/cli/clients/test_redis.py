"""redis-cli and valkey-cli; a real one is an interop test."""

import pytest

from ssmtunneld.cli.clients.redis import prepare
from ssmtunneld.cli.destination import Local
from ssmtunneld.cli.exit_codes import CommandError
from tests.cli.clients.conftest import task

TO = ["redis-cli", "-h", "127.0.1.2", "-p", "15432"]
CACHE = "master.c.abc123.euw1.cache.amazonaws.com"


def words(*arguments, **settings):
    return prepare(task("redis", "redis-cli", *arguments, **settings)).words


def test_it_connects_to_the_tunnels_address():
    assert words("get", "x", db_name="3") == [*TO, "-n", "3", "get", "x"]
    socket = words(local=Local("/run/r", None), db_tls="require")
    assert socket == ["redis-cli", "-s", "/run/r"]


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"host": "r.x", "db_tls": "disable"}, []),
        ({"host": "r.x", "db_tls": "require"}, ["--tls", "--sni", "r.x", "--insecure"]),
        ({"host": "10.0.0.5", "db_tls": "require"}, ["--tls", "--insecure"]),
        (
            {"host": "r.x", "db_ca": "CA"},
            ["--tls", "--sni", "r.x", "--cacert", "CA"],
        ),
        ({"db_ca": "CA", "db_tls": "verify-ca"}, ["--tls", "--cacert", "CA"]),
    ],
)
def test_it_names_the_server_and_trusts_whom_the_file_says(
    settings, expected, tmp_path
):
    file = tmp_path / "ca.pem"
    file.touch()
    if "db_ca" in settings:
        settings = {**settings, "db_ca": str(file)}
    expected = [str(file) if word == "CA" else word for word in expected]
    assert words(**settings) == [*TO, *expected]


def test_a_cache_of_aws_that_wants_tls_gets_it():
    assert words(host=CACHE)[5:8] == ["--tls", "--sni", CACHE]
    assert words(host="c.abc123.0001.euw1.cache.amazonaws.com") == TO


def test_the_name_is_not_checked_and_nobody_says_so():
    with pytest.raises(CommandError, match="redis-cli cannot check the name") as caught:
        words(host="r.x", db_tls="verify-full")
    assert "hosts" not in caught.value.advice


@pytest.mark.parametrize(
    ("arguments", "given", "asked"),
    [
        ((), {}, True),
        ((), {"asks": False}, False),
        ((), {"environ": {"REDISCLI_AUTH": "x"}}, False),
        (("-a", "x"), {}, False),
    ],
)
def test_a_user_is_asked_for_the_password(arguments, given, asked):
    found = words(*arguments, **{"db_user": "app", "asks": True, **given})
    assert found[5:7] == ["--user", "app"]
    assert ("--askpass" in found) is asked
