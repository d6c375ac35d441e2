"""Features that a version string switches on: the tables of protocol 2.3 and 7.5."""

import inspect
import re
from pathlib import Path

import pytest

from ssmtunneld.emulator.versions import AgentTraits, compare_versions
from ssmtunneld.errors import ConfigError


@pytest.mark.parametrize(
    ("left", "right", "order"),
    [
        ("1.2.3", "1.2.3", 0),
        ("1.2.10", "1.2.9", 1),
        ("1.2.0.0", "1.1.70", 1),
        ("0.0.1", "1.1.70", -1),
        ("", "1.1.70", -1),
        ("1.2.3", "1.2.3.0", -1),
        ("1.2.3.0", "1.2.3", 1),
        ("ssmtunneld/1.0", "1.2.331.0", 1),
    ],
)
def test_versions_are_ordered_as_the_agent_orders_them(left, right, order):
    assert compare_versions(left, right) == order


@pytest.mark.parametrize(
    ("agent", "session_type", "client", "mux"),
    [
        ("3.3.987.0", "LocalPortForwarding", "1.2.764.0", True),
        ("3.3.987.0", "LocalPortForwarding", "1.2.0.0", True),
        ("3.3.987.0", "LocalPortForwarding", "0.0.1", False),
        ("3.3.987.0", "LocalPortForwarding", "", False),
        ("3.3.987.0", "", "1.2.764.0", False),
        ("3.0.196.0", "LocalPortForwarding", "1.2.764.0", False),
        ("3.0.222.0", "LocalPortForwarding", "1.2.764.0", True),
    ],
)
def test_mux_needs_the_type_a_new_client_and_a_new_agent(
    agent, session_type, client, mux
):
    assert AgentTraits.of(agent).uses_mux(session_type, client) is mux


@pytest.mark.parametrize(
    ("agent", "client", "keepalive"),
    [
        ("3.0.222.0", "1.2.764.0", True),
        ("3.1.1374.0", "1.2.764.0", True),
        ("3.1.1446.0", "1.2.0.0", False),
        ("3.1.1476.0", "1.2.764.0", True),
        ("3.1.1511.0", "1.2.764.0", True),
        ("3.1.1575.0", "1.2.331.0", True),
        ("3.1.1575.0", "1.2.332", False),
        ("3.3.987.0", "1.2.0.0", True),
        ("3.3.987.0", "1.2.764.0", False),
        ("3.3.987.0", "ssmtunneld/1.0", False),
    ],
)
def test_keepalive_went_on_and_off_and_on(agent, client, keepalive):
    assert AgentTraits.of(agent).uses_keepalive(client) is keepalive


@pytest.mark.parametrize("version", ["", "3.3", "3.3.987", "3.3.987.x", "v3.3.987.0"])
def test_an_agent_version_has_four_numbers(version):
    with pytest.raises(ConfigError, match=r"not like 3\.3\.987\.0"):
        AgentTraits.of(version)


def test_the_page_has_every_version_that_changes_something():
    text = (Path(__file__).parents[2] / "docs/emulator.md").read_text()
    table = text.split("| `--agent-version` | Difference |")[1].split("\n\n")[0]
    versions = r"[23]\.\d\.\d+\.\d+"
    documented = set(re.findall(versions, table))
    source = inspect.getsource(AgentTraits.of).split("return cls(")[1]
    assert documented == set(re.findall(versions, source))
    for version in documented - {"3.0.196.0"}:  # the last one of its kind
        first, second, third, _ = version.split(".")
        before = AgentTraits.of(f"{first}.{second}.{int(third) - 1}.0")
        changed = AgentTraits.of(version)
        assert any(
            getattr(before, name) != getattr(changed, name)
            for name in AgentTraits.__dataclass_fields__
            if name != "version"
        )
