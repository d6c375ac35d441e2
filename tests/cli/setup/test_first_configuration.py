"""A first configuration as text."""

import pytest

from ssmtunneld.cli.ad_hoc import Forward
from ssmtunneld.cli.setup.first_configuration import (
    Plan,
    PlannedTunnel,
    Surroundings,
    plan_tunnels,
    with_addresses,
)
from ssmtunneld.config import parse_config

TARGET = "i-0123456789abcdef0"


def test_names_and_local_ports_are_what_people_would_choose():
    planned = plan_tunnels(
        ["22", "80", "orders.internal:5432", "cache=redis.internal:6379", "a:5432"],
        is_free=lambda _: True,
    )
    assert [(t.name, t.listen) for t in planned] == [
        ("ssh", 10022),
        ("web", 10080),
        ("orders", 5432),
        ("cache", 6379),
        ("a", 5433),
    ]


def test_later_ones_know_of_earlier_ones():
    first = plan_tunnels(["22"], is_free=lambda _: True)
    second = plan_tunnels(["22"], first, is_free=lambda _: True)
    assert [(t.name, t.listen) for t in second] == [("ssh-2", 10023)]


@pytest.mark.parametrize(
    ("wanted", "free", "listen"),
    [
        ("5432", {5432, 5433}, 5432),
        ("5432", {5434}, 5434),
        ("5432", set(), 5432),
        ("65535", set(), 65535),
    ],
)
def test_a_port_that_somebody_holds_is_passed_over(wanted, free, listen):
    (tunnel,) = plan_tunnels([wanted], is_free=free.__contains__)
    assert tunnel.listen == listen


def test_addresses_are_given_in_the_order_of_the_destinations():
    tunnels = plan_tunnels(["22", "80"], is_free=lambda _: True)
    first, second = with_addresses(tunnels, ["2222"])
    assert (first.listen, second.listen) == (2222, 10080)
    first, second = with_addresses(tunnels, ["unix:/a", "127.0.0.2:1"])
    assert (first.listen, second.listen) == ("unix:/a", "127.0.0.2:1")
    with pytest.raises(ValueError, match="--listen 3 has no destination of its own"):
        with_addresses(tunnels, ["1", "2", "3"])


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, (None, None, None, ())),
        ({"AWS_PROFILE": "dev"}, ("dev", None, None, ())),
        ({"AWS_PROFILE": ""}, (None, None, None, ())),
        (
            {"AWS_PROFILE": "dev", "AWS_ACCESS_KEY_ID": "AKIA"},
            (None, None, None, ("AWS_ACCESS_KEY_ID",)),
        ),
        (
            {"AWS_REGION": "a", "AWS_DEFAULT_REGION": "b"},
            (None, "a", None, ()),
        ),
        ({"AWS_DEFAULT_REGION": "b"}, (None, "b", None, ())),
        ({"AWS_ENDPOINT_URL": "http://x"}, (None, None, "http://x", ())),
        ({"HTTPS_PROXY": "http://p"}, (None, None, None, ("HTTPS_PROXY",))),
    ],
)
def test_what_the_environment_says_is_read_as_botocore_reads_it(environ, expected):
    found = Surroundings.of(environ)
    assert (
        found.profile,
        found.region,
        found.endpoint_url,
        found.needed,
    ) == expected


def test_what_is_no_destination_is_refused():
    with pytest.raises(ValueError, match="'x' is not a destination"):
        plan_tunnels(["a=x"])


def test_the_text_is_a_configuration_that_explains_itself():
    tunnels = [
        PlannedTunnel("orders", Forward("orders.internal", 5432), 15432, "our orders"),
        PlannedTunnel("odd", Forward(None, 9), "127.0.0.1:9009"),
    ]
    text = Plan(TARGET, "prod", "eu-west-1", None, tunnels).text()
    config = parse_config(text, "x", {})
    assert [tunnel.name for tunnel in config.tunnels] == ["orders", "odd"]
    assert {(t.profile, t.region, t.target) for t in config.tunnels} == {
        ("prod", "eu-west-1", TARGET)
    }
    assert (
        "# our orders\n# psql -h localhost -p 15432 -U USER\n[tunnels.orders]" in text
    )
    assert "ssmtunneld config example" in text


@pytest.mark.parametrize(
    ("port", "client"),
    [(22, "ssh -p 7 USER@localhost"), (8000, "curl http://localhost:7/"), (9, "")],
)
def test_how_to_use_a_tunnel_is_known_by_its_port(port, client):
    assert PlannedTunnel("x", Forward(None, port), "127.0.0.1:7").client == client


@pytest.mark.parametrize(
    ("port", "listen", "client"),
    [
        (5432, 15432, "psql -h localhost -p 15432 -U USER"),
        (5432, "127.0.0.1:15432", "psql -h localhost -p 15432 -U USER"),
        (5432, "127.0.0.2:15432", "psql -h 127.0.0.2 -p 15432 -U USER"),
        (3306, "[::1]:3306", "mysql -h ::1 -P 3306 -u USER -p"),
        (80, "[::1]:8080", "curl http://[::1]:8080/"),
        (80, 10080, "curl http://localhost:10080/"),
        (80, "127.0.0.1:0", ""),
        (80, "unix:/run/x.sock", ""),
        (80, "nonsense", ""),
        (9, 9009, ""),
    ],
)
def test_the_command_for_a_tunnel_leads_to_where_it_listens(port, listen, client):
    assert PlannedTunnel("x", Forward(None, port), listen).client == client
