"""Groups of tunnels, and a configuration that has only some of them."""

import pytest

from ssmtunneld.config import parse_config
from ssmtunneld.config.groups import groups_of, in_groups, no_such_group
from ssmtunneld.errors import ConfigError


def config(**groups):
    tables = [
        f"[tunnels.{name}]\nlisten = {number}\nport = 1\ngroups = {list(found)!r}\n"
        for number, (name, found) in enumerate(groups.items(), 1)
    ]
    text = '[defaults]\ntarget = "i-0182d91e"\n' + "".join(tables)
    return parse_config(text, "c.toml", {})


ALL = {"db": ["orders", "all"], "web": ["all"], "ssh": []}


def test_groups_are_those_of_the_tunnels_sorted():
    assert groups_of(config(**ALL).tunnels) == ["all", "orders"]
    assert groups_of(config(ssh=[]).tunnels) == []


@pytest.mark.parametrize(
    ("groups", "names"),
    [
        ((), ["db", "web", "ssh"]),
        (("orders",), ["db"]),
        (("all",), ["db", "web"]),
        (("orders", "all", "orders"), ["db", "web"]),
    ],
)
def test_a_group_chooses_its_tunnels_and_several_choose_those_of_any(groups, names):
    found = in_groups(config(**ALL), groups)
    assert [tunnel.name for tunnel in found.tunnels] == names
    assert str(found.source) == "c.toml"


def test_every_group_that_does_not_exist_is_told_with_those_that_do():
    with pytest.raises(ConfigError) as caught:
        in_groups(config(**ALL), ["x", "all", "order", "x"])
    assert caught.value.problems == [
        "c.toml: no tunnel is in group x; the groups are: all, orders",
        "c.toml: no tunnel is in group order; did you mean orders? the groups are: "
        "all, orders",
    ]


def test_where_there_are_no_groups_it_says_how_there_would_be():
    assert no_such_group("x", []) == (
        "no tunnel is in group x",
        'no tunnel has groups, such as groups = ["orders"]',
    )
