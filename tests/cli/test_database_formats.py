"""Forms to paste, each read back as its reader would."""

import configparser
import shlex
from urllib.parse import parse_qs, urlsplit
from xml.etree import ElementTree as ET

import pytest

from ssmtunneld.cli.database_formats import (
    PASTED,
    as_datagrip,
    as_dbeaver,
    as_jdbc,
    as_pgservice,
    remarks,
)
from ssmtunneld.cli.destination import Local
from ssmtunneld.cli.exit_codes import CommandError
from tests.cli.test_database import RDS, made


def jdbc(text):
    """Return scheme, place and parameters of a JDBC URL."""
    found = urlsplit(text.removeprefix("jdbc:"))
    query = {key: values[0] for key, values in parse_qs(found.query).items()}
    return found.scheme, f"{found.netloc}{found.path}", query


def test_a_jdbc_url_has_the_user_among_its_parameters():
    ours = as_jdbc(made(host="db.x", db_user="a&b", db_name="o/d"))
    assert jdbc(ours) == ("postgresql", "127.0.1.2:15432/o%2Fd", {"user": "a&b"})
    assert as_jdbc(made(local=Local("::1", 1))) == "jdbc:postgresql://[::1]:1/"


@pytest.mark.parametrize(
    ("kind", "named", "expected"),
    [
        ("postgres", False, {"sslmode": "verify-ca", "sslrootcert": "/ca.pem"}),
        ("postgres", True, {"sslmode": "verify-full", "sslrootcert": "/ca.pem"}),
        ("mysql", False, {"sslMode": "VERIFY_CA"}),
        ("mysql", True, {"sslMode": "VERIFY_IDENTITY"}),
        ("redis", False, {"ssl": "true"}),
    ],
)
def test_drivers_check_the_name_only_where_it_leads_here(kind, named, expected):
    found = made(kind, host="db.x", db_ca="/ca.pem", named=named)
    host = "db.x" if named else "127.0.1.2"
    assert jdbc(as_jdbc(found))[1:] == (f"{host}:15432/", expected)


def test_redis_may_be_believed_unseen():
    _, _, query = jdbc(as_jdbc(made("redis", host="r.x", db_tls="require")))
    assert query == {"ssl": "true", "verifyServerCertificate": "false"}


@pytest.mark.parametrize(
    ("settings", "tail"),
    [
        ({}, ""),
        ({"db_tls": "disable"}, ";encrypt=false"),
        ({"db_tls": "require"}, ";encrypt=true;trustServerCertificate=true"),
        ({"db_tls": "verify-full"}, ";encrypt=true;hostNameInCertificate=s.x"),
    ],
)
def test_sql_server_s_driver_is_told_the_name_in_the_certificate(settings, tail):
    found = made("sqlserver", host="s.x", db_name="o;}d", db_user="sa", **settings)
    start = "jdbc:sqlserver://127.0.1.2:15432;databaseName={o;}}d};user=sa"
    assert as_jdbc(found) == f"{start}{tail}"


def test_where_iam_makes_the_password_aws_wrapper_signs_for_the_database():
    settings = {"host": RDS, "db_user": "app", "db_auth": "iam", "db_tls": "require"}
    ours = as_jdbc(made(**settings))
    scheme, place, query = jdbc(ours.replace("aws-wrapper:", ""))
    assert ours.startswith("jdbc:aws-wrapper:")
    assert (scheme, place) == ("postgresql", "127.0.1.2:15432/")
    assert query == {
        "user": "app",
        "sslmode": "require",
        "wrapperPlugins": "iam",
        "iamHost": RDS,
        "iamDefaultPort": "5432",
        "iamRegion": "eu-west-1",
    }


def test_the_wrapper_knows_nothing_of_redshift():
    host = "sales.abc.eu-west-1.redshift.amazonaws.com"
    assert "wrapper" not in as_jdbc(made(host=host, db_auth="iam"))


def test_a_service_file_gets_a_section():
    settings = {"db_user": "app", "db_name": "o d", "db_ca": "/a b/ca.pem"}
    parser = configparser.ConfigParser(interpolation=None)
    parser.read_string(as_pgservice(made(host="db.x", **settings)))
    assert dict(parser["db"]) == {
        "host": "db.x",
        "hostaddr": "127.0.1.2",
        "port": "15432",
        "user": "app",
        "dbname": "o d",
        "sslmode": "verify-full",
        "sslrootcert": "/a b/ca.pem",
    }


def dbeaver(text):
    program, option, spec = shlex.split(text)
    assert (program, option) == ("dbeaver", "-con")
    return dict(part.split("=", 1) for part in spec.split("|"))


def test_dbeaver_gets_a_command():
    settings = {"db_user": "a'b", "db_name": "o=d", "db_ca": "/ca.pem"}
    assert dbeaver(as_dbeaver(made(host="db.x", **settings))) == {
        "driver": "postgresql",
        "name": "db",
        "host": "127.0.1.2",
        "port": "15432",
        "database": "o=d",
        "user": "a'b",
        "prop.sslmode": "verify-ca",
        "prop.sslrootcert": "/ca.pem",
        "savePassword": "false",
        "create": "true",
        "save": "true",
    }


def test_dbeaver_s_command_cannot_say_everything():
    with pytest.raises(CommandError, match=r"cannot say a database with \| in it"):
        as_dbeaver(made(db_name="o|d"))


def datagrip(text):
    first, name, begin, source, end = text.splitlines()
    assert (first, begin, end) == ("#DataSourceSettings#", "#BEGIN#", "#END#")
    assert name == "#LocalDataSource: db"
    element = ET.fromstring(source)
    return element.attrib, {child.tag: child.text for child in element}


@pytest.mark.parametrize(
    ("kind", "driver", "url"),
    [
        ("postgres", "postgresql", "jdbc:postgresql://127.0.1.2:15432/o&d<"),
        ("mysql", "mysql.8", "jdbc:mysql://127.0.1.2:15432/o&d<"),
        ("redis", "redis", "jdbc:redis://127.0.1.2:15432/o&d<"),
        (
            "mongo",
            "mongo",
            "mongodb://a%26b@127.0.1.2:15432/o&d<?directConnection=true",
        ),
    ],
)
def test_datagrip_imports_it_from_the_clipboard(kind, driver, url):
    kind = "mongodb" if kind == "mongo" else kind
    found = made(kind, host="db.x", db_user="a&b", db_name="o&d<")
    attributes, children = datagrip(as_datagrip(found))
    assert children["jdbc-url"] == url.replace("o&d<", "o%26d%3C")
    assert (children["driver-ref"], children["user-name"]) == (driver, "a&b")
    assert (attributes["source"], attributes["name"]) == ("LOCAL", "db")


def test_datagrip_knows_a_data_source_again():
    (first, _), (second, _) = (
        datagrip(as_datagrip(made(host=host))) for host in ("db.x", "db.y")
    )
    assert first["uuid"] == second["uuid"]


@pytest.mark.parametrize(
    ("style", "kind"),
    [
        ("jdbc", "mongodb"),
        ("pgservice", "mysql"),
        ("dbeaver", "redis"),
        ("dbeaver", "mongodb"),
    ],
)
def test_not_every_form_is_for_every_kind(style, kind):
    with pytest.raises(CommandError, match=f"is not for {kind}") as caught:
        PASTED[style](made(kind))
    assert caught.value.code == 2


def remarked(style, kind="postgres", **settings):
    return " ".join(remarks(made(kind, host="db.x", **settings), style))


@pytest.mark.parametrize(
    ("style", "kind", "named", "warned"),
    [
        ("jdbc", "postgres", False, True),
        ("jdbc", "postgres", True, False),
        ("uri", "postgres", False, False),
        ("uri", "mysql", False, True),
        ("jdbc", "sqlserver", False, False),
    ],
)
def test_a_name_that_cannot_be_checked_is_said(style, kind, named, warned):
    words = remarked(style, kind, named=named, db_tls="verify-full")
    assert ("ssmtunneld hosts" in words) is warned


def test_java_has_authorities_of_its_own():
    assert "keytool" in remarked("jdbc", "mysql", db_ca="/ca.pem")
    assert remarked("uri", "mysql", db_ca="/ca.pem") == ""
    assert remarked("jdbc", db_ca="/ca.pem") == ""


def test_a_password_by_iam_is_made_when_it_is_needed():
    assert "ssmtunneld db-token db" in remarked("datagrip", db_auth="iam")
    assert remarked("jdbc", db_auth="iam") == ""
    assert remarked("uri") == ""
    assert remarked("uri", "redis", db_auth="iam") == ""


@pytest.mark.parametrize("name", ["trail ", "n" * 1100])
def test_a_service_file_says_nothing_that_libpq_would_read_as_something_else(name):
    with pytest.raises(CommandError, match="a service file cannot say a dbname"):
        as_pgservice(made(host="db.x", db_name=name))
