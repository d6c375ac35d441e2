"""The level of TLS that a client is told, and whom it should trust."""

import pytest

from ssmtunneld.cli.clients import tls
from ssmtunneld.cli.clients.tls import authorities, level_for
from ssmtunneld.cli.exit_codes import CommandError
from tests.cli.test_database import RDS, made


@pytest.mark.parametrize(
    ("settings", "checks", "level"),
    [
        ({"host": "db.x"}, True, None),
        ({"host": RDS}, False, "require"),
        ({"host": RDS, "db_tls": "disable"}, False, "disable"),
        ({"host": RDS, "db_ca": "ca.pem"}, False, "verify-ca"),
        ({"host": RDS, "db_ca": "ca.pem"}, True, "verify-full"),
        ({"host": "db.x", "db_tls": "verify-full"}, True, "verify-full"),
    ],
)
def test_the_file_comes_before_what_the_service_wants(settings, checks, level):
    assert level_for(made(**settings), "psql", checks_name=checks) == level


@pytest.mark.parametrize(
    ("by_hosts", "advice"),
    [
        (
            True,
            "let the real name lead to the tunnel, with ssmtunneld hosts, or "
            'set db_tls = "verify-ca"',
        ),
        (False, 'set db_tls = "verify-ca"'),
    ],
)
def test_nothing_less_is_done_than_the_file_asks_for(by_hosts, advice):
    database = made("mysql", host="db.x", db_tls="verify-full")
    with pytest.raises(CommandError, match="mysql cannot check the name") as caught:
        level_for(database, "mysql", checks_name=False, by_hosts=by_hosts)
    assert (caught.value.code, caught.value.advice) == (2, advice)


def test_the_file_names_the_authorities(tmp_path):
    file = tmp_path / "ca.pem"
    with pytest.raises(CommandError, match=r"ca\.pem is not a file"):
        authorities(made(db_ca=str(file)))
    file.touch()
    assert authorities(made(db_ca=str(file))) == str(file)


def test_otherwise_the_system_does(tmp_path, monkeypatch):
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    present = tmp_path / "roots.pem"
    monkeypatch.setattr(tls, "_SYSTEM_ROOTS", (tmp_path / "none", present))
    assert authorities(made()) is None
    present.touch()
    assert authorities(made()) == str(present)
    own = tmp_path / "own.pem"
    own.touch()
    monkeypatch.setenv("SSL_CERT_FILE", str(own))
    assert authorities(made()) == str(own)
