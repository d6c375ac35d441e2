"""A first configuration as text."""

import pytest

from ssmtunneld.cli.ad_hoc import Forward
from ssmtunneld.cli.setup.first_configuration import Plan, PlannedTunnel, plan_tunnels
from ssmtunneld.config import parse_config

TARGET = "i-0123456789abcdef0"


def test_names_and_local_ports_are_what_people_would_choose():
    planned = plan_tunnels(
        ["22", "80", "orders.internal:5432", "cache=redis.internal:6379", "a:5432"]
    )
    assert [(t.name, t.listen) for t in planned] == [
        ("ssh", 10022),
        ("web", 10080),
        ("orders", 5432),
        ("cache", 6379),
        ("a", 5433),
    ]


def test_later_ones_know_of_earlier_ones():
    first = plan_tunnels(["22"])
    assert [(t.name, t.listen) for t in plan_tunnels(["22"], first)] == [
        ("ssh-2", 10023)
    ]


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
