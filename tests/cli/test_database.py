"""A database behind a tunnel: its kind, its name on this machine, its level of TLS."""

import dataclasses

import pytest

from ssmtunneld.cli import hosts_block
from ssmtunneld.cli.database import database_of, kind_of, leads_here
from ssmtunneld.cli.destination import Local
from ssmtunneld.cli.exit_codes import CommandError
from tests.cli.test_destination import only

HERE = Local("127.0.1.2", 15432)
RDS = "orders.cluster-abc.eu-west-1.rds.amazonaws.com"


def made(kind="postgres", local=HERE, *, named=False, **settings):
    """Return a database, whose real name leads here if it is ``named``."""
    found = database_of(kind, only(listen=1, **{"port": 5432, **settings}), local)
    return dataclasses.replace(found, named=named)


def test_the_configuration_knows_better_than_the_port():
    assert kind_of(only(listen=1, port=5432, db_engine="mysql")) == "mysql"
    assert kind_of(only(listen=1, port=5432)) == "postgres"


@pytest.mark.parametrize("port", [8080, 22, 7])
def test_what_is_no_database_has_no_kind(port):
    with pytest.raises(CommandError) as caught:
        kind_of(only(listen=1, port=port))
    advice = "pass --kind postgres|mysql|redis|mongodb|sqlserver, or set db_engine"
    assert caught.value.advice == advice


def test_the_user_may_be_another_one():
    tunnel = only(listen=1, port=5432, db_user="app", db_name="orders")
    assert database_of("postgres", tunnel, HERE).user == "app"
    assert database_of("postgres", tunnel, HERE, "me").user == "me"


@pytest.fixture
def hosts(tmp_path, monkeypatch):
    """A file in the place of /etc/hosts."""
    file = tmp_path / "hosts"
    monkeypatch.setattr(hosts_block, "HOSTS_FILE", file)
    return file


def test_a_real_name_leads_here_if_the_hosts_file_says_so(hosts):
    hosts.write_text("127.0.1.2\tother db.x # ours\n::1 localhost\n")
    tunnel = only(listen=1, host="DB.x", port=5432)
    found = database_of("mysql", tunnel, HERE)
    assert (found.named, found.address) == (True, "DB.x")
    assert not leads_here("localhost", HERE)


@pytest.mark.parametrize(
    "text", ["127.0.1.2 db.x\n127.0.0.1 db.x\n", "#127.0.1.2 db.x", ""]
)
def test_a_name_that_may_lead_elsewhere_is_not_used(hosts, text):
    hosts.write_text(text)
    found = database_of("mysql", only(listen=1, host="db.x", port=5432), HERE)
    assert (found.named, found.address) == (False, "127.0.1.2")


def test_a_hosts_file_that_cannot_be_read_gives_no_name(hosts):
    assert not leads_here("db.x", HERE)


def test_a_unix_socket_has_no_address_for_most_programs():
    with pytest.raises(CommandError, match="listens on a Unix socket only"):
        _ = made("mysql", Local("/run/x", None)).address


@pytest.mark.parametrize(
    ("settings", "checks", "level"),
    [
        ({}, True, None),
        ({"db_tls": "require"}, True, "require"),
        ({"db_tls": "disable", "db_ca": "/ca.pem"}, True, "disable"),
        ({"db_ca": "/ca.pem"}, True, "verify-full"),
        ({"db_ca": "/ca.pem"}, False, "verify-ca"),
        ({"db_tls": "verify-full"}, False, "verify-full"),
    ],
)
def test_the_file_says_how_far_tls_goes(settings, checks, level):
    assert made(**settings).wanted_level(checks_name=checks) == level


@pytest.mark.parametrize(
    ("settings", "level"),
    [
        ({"host": "db.internal"}, None),
        ({"host": "db.internal", "db_auth": "iam"}, "require"),
        ({"host": RDS}, "require"),
        ({"host": "d.cluster-a.eu-west-1.docdb.amazonaws.com"}, "require"),
        ({"host": "c.abc123.0001.euw1.cache.amazonaws.com"}, None),
        ({"host": "Master.c.abc123.euw1.cache.amazonaws.com"}, "verify-ca"),
        ({"host": "c-abc.serverless.euw1.cache.amazonaws.com"}, "verify-ca"),
        ({"host": "clustercfg.m.a.memorydb.eu-west-1.amazonaws.com"}, "verify-ca"),
    ],
)
def test_a_service_of_aws_has_its_usual_level(settings, level):
    assert made(**settings).usual_level == level


def test_the_authorities_are_found_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert made(db_ca="ca.pem").ca == tmp_path / "ca.pem"
