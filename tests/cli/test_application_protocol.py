"""The protocol behind a tunnel: from the file, then AWS's names, then the port."""

import pytest

from ssmtunneld.cli import application_protocol
from ssmtunneld.cli.application_protocol import protocol_of, service_of
from tests.cli.test_destination import only

RDS = "orders.cluster-abc.eu-west-1.rds.amazonaws.com"


@pytest.mark.parametrize(
    ("port", "protocol"),
    [
        (5432, "postgres"),
        (5439, "postgres"),
        (3306, "mysql"),
        (6379, "redis"),
        (27017, "mongodb"),
        (1433, "sqlserver"),
        (22, "ssh"),
        (6443, "kubernetes"),
        (443, "http"),
        (8080, "http"),
        (7, None),
    ],
)
def test_a_port_is_known_for_something(port, protocol):
    assert protocol_of(only(listen=1, port=port)) == protocol


@pytest.mark.parametrize(
    ("settings", "protocol"),
    [
        ({"port": 5432, "db_engine": "mysql", "probe": "mysql"}, "mysql"),
        ({"port": 5432, "db_engine": "sqlserver", "probe": "tcp"}, "sqlserver"),
        ({"instance_connect": True, "instance_connect_user": "me", "port": 80}, "ssh"),
        ({"document": "AWS-StartSSHSession"}, "ssh"),
        ({"cluster": "prod", "probe": "http:/livez"}, "kubernetes"),
    ],
)
def test_settings_come_first(settings, protocol):
    assert protocol_of(only(listen=1, **settings)) == protocol


@pytest.mark.parametrize(
    ("probe", "protocol"),
    [
        ("postgres", "postgres"),
        ("redis", "redis"),
        ("http:/health", "http"),
        ("banner:SSH-2.0", "ssh"),
        ("banner:220 ", "ssh"),
        ("tcp", "ssh"),
    ],
)
def test_then_the_probe_unless_it_says_nothing(probe, protocol):
    assert protocol_of(only(listen=1, port=22, probe=probe)) == protocol


@pytest.mark.parametrize(
    ("host", "protocol"),
    [
        ("sales.abc.eu-west-1.redshift.amazonaws.com", "postgres"),
        ("w.123456789012.eu-west-1.redshift-serverless.amazonaws.com", "postgres"),
        ("docs.cluster-abc.eu-west-1.docdb.amazonaws.com", "mongodb"),
        ("master.c.abc123.euw1.cache.amazonaws.com", "redis"),
        ("C.abc123.0001.cnn1.cache.amazonaws.com.cn.", "redis"),
        ("clustercfg.m.abc.memorydb.eu-west-1.amazonaws.com", "redis"),
        ("ABC.gr7.eu-west-1.eks.amazonaws.com", "kubernetes"),
        (RDS, "mysql"),  # which has several engines: its port tells
        ("x.cache.amazonaws.com.example.org", "mysql"),
    ],
)
def test_then_aws_own_name_of_a_service(host, protocol):
    assert protocol_of(only(listen=1, host=host, port=3306)) == protocol


def test_a_service_is_told_by_the_name_of_its_endpoint():
    assert service_of(RDS) == "rds"
    assert service_of(f"proxy-x.{RDS}") == "rds"
    assert service_of("orders.internal") is None
    assert service_of(None) is None


def test_a_probe_that_no_client_speaks_says_nothing(monkeypatch):
    monkeypatch.setattr(application_protocol, "_SPOKEN", frozenset())
    assert protocol_of(only(listen=1, port=22, probe="redis")) == "ssh"
