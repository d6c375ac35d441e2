"""The address that the agent connects to (protocol 6.2)."""

import socket

import pytest

from ssmtunneld.emulator.agent.port import Destination, PluginFailed, is_loopback
from ssmtunneld.emulator.faults import FaultPlan
from ssmtunneld.emulator.settings import EmulatorSettings
from ssmtunneld.emulator.versions import AgentTraits
from tests.emulator.reference import destination, echo


def to(port, host=None, version="3.3.987.0", plan=None, **settings):
    properties = {"portNumber": str(port)}
    if host is not None:
        properties["host"] = host
    return Destination(
        properties,
        AgentTraits.of(version),
        EmulatorSettings(**settings),
        plan or FaultPlan(),
    )


async def reaches(where):
    """Say whether ``where`` can be dialled, as a peer or an error text."""
    await where.resolve()
    try:
        _, writer = await where.dial()
    except OSError as error:
        return str(error)
    peer = writer.get_extra_info("peername")[0]
    writer.close()
    await writer.wait_closed()
    return peer


async def test_no_port_is_a_failure():
    with pytest.raises(PluginFailed, match="Port number is empty"):
        to("")


@pytest.mark.parametrize("host", [None, "", "localhost"])
async def test_no_host_is_localhost(host):
    async with destination(echo) as port:
        assert await reaches(to(port, host)) == "127.0.0.1"


async def test_localhost_tries_ipv6_first():
    async with destination(echo, host="::1") as port:
        assert await reaches(to(port)) == "::1"


@pytest.mark.parametrize("address", ["127.0.0.1", "localhost"])
async def test_an_alias_is_followed(address):
    async with destination(echo) as port:
        where = to(port, "db.internal", host_aliases={"db.internal": address})
        assert await reaches(where) == "127.0.0.1"


async def test_a_name_is_not_looked_up_where_it_could_not_be_dialled():
    assert await reaches(to(80, "db.internal")) == "missing address"


async def test_the_resolver_is_asked_where_remote_addresses_are_allowed():
    async with destination(echo) as port:
        # A spelling of 127.0.0.1 that only the resolver understands.
        where = to(port, "127.1", allow_remote=True)
        assert await reaches(where) == "127.0.0.1"


async def test_a_name_that_does_not_resolve_has_no_address():
    where = to(80, "nowhere.invalid", allow_remote=True)
    assert await reaches(where) == "missing address"


async def test_an_address_that_is_not_loopback_is_refused():
    assert "192.0.2.1 is not loopback" in await reaches(to(80, "192.0.2.1"))


async def test_a_dns_failure_leaves_localhost_alone():
    plan = FaultPlan(["dns-failure"])
    async with destination(echo) as port:
        aliases = {"db.internal": "127.0.0.1"}
        where = to(port, "db.internal", plan=plan, host_aliases=aliases)
        assert await reaches(where) == "missing address"
        assert await reaches(to(port, plan=plan)) == "127.0.0.1"
        plan.clear()
        # The addresses are found once for the life of the session.
        with pytest.raises(OSError, match="missing address"):
            await where.dial()


async def test_an_agent_before_3_2_1041_resolves_for_every_dial():
    plan = FaultPlan(["dns-failure"])
    async with destination(echo) as port:
        aliases = {"db.internal": "127.0.0.1"}
        where = to(port, "db.internal", "3.1.1732.0", plan, host_aliases=aliases)
        await where.resolve()
        plan.clear()
        _, writer = await where.dial()
        writer.close()
        await writer.wait_closed()


async def test_an_agent_before_3_1_1188_ignores_the_host():
    async with destination(echo) as port:
        assert await reaches(to(port, "db.internal", "3.1.1045.0")) == "127.0.0.1"


async def test_the_metadata_service_is_forbidden():
    with pytest.raises(PluginFailed, match=r"169\.254\.169\.254 is forbidden"):
        await to(80, "169.254.169.254").resolve()
    await to(80, "169.254.169.254", "3.1.1188.0").resolve()  # an agent too old to care


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("localhost", "127.0.0.1"),
        ("LocalHost.", "127.0.0.1"),
        ("127.1", "127.0.0.1"),
        ("0x7f000001", "127.0.0.1"),
        ("2130706433", "127.0.0.1"),
        ("127.8.9.10", "127.8.9.10"),
        ("::1", "::1"),
        ("0:0:0:0:0:0:0:1", "::1"),
        ("::ffff:127.0.0.1", "127.0.0.1"),
        ("169.254.170.2", "169.254.170.2"),
        ("169.254.170.23", "169.254.170.23"),
        ("fd00:ec2:0::23", "fd00:ec2::23"),
        ("::ffff:169.254.169.254", "169.254.169.254"),
    ],
)
async def test_loopback_and_credentials_are_forbidden_however_they_are_written(
    host, address
):
    with pytest.raises(PluginFailed) as caught:
        await to(80, host, "3.3.4851.0").resolve()
    assert str(caught.value) == f"Forwarding to IP address {address} is forbidden."
    if "169.254.169" not in host:
        await to(80, host, "3.3.987.0").resolve()  # which knew of no such rule


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "0"])
async def test_the_unspecified_address_is_loopback_to_the_newest_agents(host):
    with pytest.raises(PluginFailed, match="is forbidden"):
        await to(80, host, "3.3.5068.0").resolve()
    await to(80, host, "3.3.4851.0").resolve()


async def test_a_name_that_resolves_to_loopback_is_forbidden():
    where = to(80, socket.gethostname(), "3.3.5068.0", allow_remote=True)
    where._look_up = loopback
    with pytest.raises(PluginFailed, match=r"127\.0\.0\.1 is forbidden"):
        await where.resolve()


async def loopback():
    return ("127.0.0.1",)


@pytest.mark.parametrize("host", ["db.internal", "127.0.0.1", "localhost"])
async def test_what_an_alias_leads_to_is_another_machine(host):
    async with destination(echo) as port:
        aliases = {host: "127.0.0.1"}
        assert await reaches(to(port, host, "3.3.5068.0", host_aliases=aliases))


async def test_a_refusal_can_be_ordered():
    async with destination(echo) as port:
        where = to(port, plan=FaultPlan(["refuse-dial"]))
        assert "refused" in await reaches(where)


@pytest.mark.parametrize(
    ("address", "loopback"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("10.0.0.1", False),
        ("x", False),
    ],
)
def test_loopback_is_told_from_the_rest(address, loopback):
    assert is_loopback(address) is loopback
