"""Arguments of mongosh; not tried with a real mongosh."""

import pytest

from ssmtunneld.cli.clients.mongodb import prepare
from ssmtunneld.cli.exit_codes import CommandError
from tests.cli.clients.conftest import task


def words(*arguments, **settings):
    return prepare(task("mongodb", "mongosh", *arguments, **settings)).words


def test_it_gets_a_uri_without_a_password_and_asks_for_it():
    found = words("--eval", "1", host="m.x", db_user="app", db_name="orders")
    uri = "mongodb://app@127.0.1.2:15432/orders?directConnection=true"
    assert found == ["mongosh", uri, "--eval", "1"]


def test_documentdb_has_tls():
    (_, uri) = words(host="d.cluster-a.eu-west-1.docdb.amazonaws.com")
    assert "tls=true&tlsAllowInvalidCertificates=true&retryWrites=false" in uri


def test_a_name_that_does_not_lead_here_cannot_be_checked():
    with pytest.raises(CommandError, match="mongosh cannot check the name"):
        words(host="m.x", db_tls="verify-full")
