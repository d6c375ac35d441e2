"""Arguments of sqlcmd; not tried with a real sqlcmd."""

import pytest

from ssmtunneld.cli.clients.sqlserver import prepare
from tests.cli.clients.conftest import task

TO = ["sqlcmd", "-S", "tcp:127.0.1.2,15432"]


def words(*arguments, **settings):
    return prepare(task("sqlserver", "sqlcmd", *arguments, **settings)).words


def test_it_connects_to_the_tunnels_address_and_asks_for_the_password():
    found = words("-Q", "select 1", db_user="sa", db_name="orders")
    assert found == [*TO, "-U", "sa", "-d", "orders", "-Q", "select 1"]


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"host": "s.x"}, []),
        ({"host": "s.x", "db_tls": "disable"}, ["-No"]),
        ({"host": "s.x", "db_tls": "require"}, ["-N", "-C"]),
        ({"host": "s.x", "db_tls": "verify-full"}, ["-N", "-F", "s.x"]),
        ({"db_tls": "verify-full"}, ["-N"]),
        ({"host": "s.abc.eu-west-1.rds.amazonaws.com"}, ["-N", "-C"]),
    ],
)
def test_it_is_told_the_name_in_the_certificate(settings, expected):
    assert words(**settings) == [*TO, *expected]
