"""The parts that both modes of the agent's Port plugin share (protocol 6.2)."""

import asyncio
import ipaddress
import socket
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, Protocol

from ssmtunneld.emulator.faults import FaultPlan
from ssmtunneld.emulator.settings import EmulatorSettings
from ssmtunneld.emulator.versions import AgentTraits
from ssmtunneld.protocol.message import Flag, PayloadType

READ_SIZE: Final = 32_768
"""Bytes of one read from a destination: the copy buffer of the agent (protocol 6.5)."""

_LOCALHOST: Final = ("::1", "127.0.0.1")
_LINK_LOCAL: Final = frozenset(
    {
        "169.254.169.254",
        "fd00:ec2::254",
        "169.254.169.253",
        "fd00:ec2::253",
        "169.254.169.123",
        "fd00:ec2::123",
        "169.254.169.250",
        "169.254.169.251",
        "fd00:ec2::240",
    }
)
_UNSPECIFIED: Final = frozenset({"0.0.0.0", "::"})  # noqa: S104 - refused, not bound
_CREDENTIALS: Final = frozenset({"169.254.170.2", "169.254.170.23", "fd00:ec2::23"})
"""Addresses at which ECS tasks and EKS pods get their credentials."""


class PluginFailed(Exception):
    """The session ends with these words to the client (protocol 1.9).

    Without words it panicked, and the client hears nothing.
    """


class PluginOutput(Protocol):
    """The agent's half of the data channel, which takes a plugin's messages."""

    async def send(self, payload_type: PayloadType, payload: bytes) -> None:
        """Send one message; waits while the service takes no more."""
        ...

    async def send_output(self, data: bytes) -> None:
        """Send ``data`` cut into messages of at most 1024 bytes; waits likewise."""
        ...

    async def rest(self) -> None:
        """Do nothing for as long as the agent sleeps after each message."""
        ...

    async def publishing(self) -> None:
        """Wait until the service no longer says pause (protocol 4.6)."""
        ...


@dataclass(slots=True)
class StreamView:
    """One stream as the admin path shows it; the id is 0 in basic mode."""

    stream_id: int
    bytes_up: int = 0
    bytes_down: int = 0


class Plugin(Protocol):
    """One mode of the Port plugin."""

    @property
    def blocked(self) -> bool:
        """True if `write` would block the agent's websocket loop (protocol 6.7)."""
        ...

    async def room(self) -> None:
        """Wait until it would not; cancelling is safe."""
        ...

    def write(self, payload: bytes) -> bool:
        """Take client output; False leaves the message unacknowledged."""
        ...

    def on_flag(self, flag: int) -> None:
        """Take a flag; unknown ones are ignored."""
        ...

    async def prepare(self) -> None:
        """Do what must be done before client output is taken.

        Raises:
            PluginFailed: It cannot be done.
        """
        ...

    async def run(self) -> None:
        """Work until the session ends in order; cancelling ends it at once.

        Raises:
            PluginFailed: It ends with an error.
        """
        ...

    def streams(self) -> Sequence[StreamView]:
        """Return what is open now."""
        ...


class Destination:
    """The destination of the streams of one session.

    Args:
        properties: The session document's, after substitution.
        traits: What this agent's version does.
        settings: Aliases, and whether addresses that are not loopback are dialled.
        plan: The faults in force.

    Raises:
        PluginFailed: There is no port.
    """

    def __init__(
        self,
        properties: Mapping[str, str],
        traits: AgentTraits,
        settings: EmulatorSettings,
        plan: FaultPlan,
    ) -> None:
        if not properties.get("portNumber"):
            raise PluginFailed("Port number is empty in session properties.")
        self.port = int(properties["portNumber"])
        self._host = properties.get("host", "") if traits.knows_host else ""
        self._traits = traits
        self._settings = settings
        self._plan = plan
        self._addresses: Sequence[str] = ()

    async def resolve(self) -> None:
        """Find the addresses, once for the session.

        A name without addresses is not an error here: every dial then fails.

        Raises:
            PluginFailed: An address is on the agent's deny list.
        """
        if self._host and self._host not in self._settings.host_aliases:
            self._forbid(_spelled_out(self._host))
        self._addresses = await self._look_up()
        if self._host and self._host not in self._settings.host_aliases:
            self._forbid(self._addresses)

    async def dial(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connect to the first address that answers.

        Raises:
            OSError: None does, or there is none.
        """
        await self._plan.until(
            lambda knobs: not (knobs.stall_dial or knobs.agent_freeze)
        )
        if self._plan.knobs.refuse_dial:
            raise ConnectionRefusedError("connection refused (a fault)")
        if not self._traits.resolves_once:
            self._addresses = await self._look_up()
        failure = OSError("missing address")
        for address in self._addresses:
            try:
                return await self._connect(address)
            except OSError as error:
                failure = error
        raise failure

    def _forbid(self, addresses: Sequence[str]) -> None:
        for address in map(canonical, addresses):
            if self._denies(address):
                raise PluginFailed(f"Forwarding to IP address {address} is forbidden.")

    def _denies(self, address: str) -> bool:
        traits = self._traits
        return (
            (traits.denies_link_local and address in _LINK_LOCAL)
            or (traits.denies_loopback and address in _CREDENTIALS)
            or (traits.denies_loopback and is_loopback(address))
            or (traits.denies_unspecified and address in _UNSPECIFIED)
        )

    async def _connect(
        self, address: str
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if not (self._settings.allow_remote or is_loopback(address)):
            raise OSError(f"{address} is not loopback and allow_remote is off")
        reader, writer = await asyncio.open_connection(
            address, self.port, limit=READ_SIZE
        )
        # Draining means that the kernel has everything: closing then loses no more
        # than it does in the agent.
        writer.transport.set_write_buffer_limits(high=0)
        return reader, writer

    async def _look_up(self) -> Sequence[str]:
        if not self._host or self._host == "localhost":
            return _LOCALHOST
        if self._plan.knobs.dns_failure:
            return ()
        name = self._settings.host_aliases.get(self._host, self._host)
        if name == "localhost":
            return _LOCALHOST
        if _is_address(name):
            return (name,)
        if not self._settings.allow_remote:
            # No name that the resolver knows could be dialled anyway.
            return ()
        loop = asyncio.get_running_loop()
        try:
            found = await loop.getaddrinfo(name, None, type=socket.SOCK_STREAM)
        except OSError:
            return ()
        return tuple(dict.fromkeys(str(entry[4][0]) for entry in found))


def canonical(address: str) -> str:
    """Return the one form of an address; what is none stays as it is.

    An IPv4 address that is mapped into IPv6 is that IPv4 address.
    """
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    return str(mapped or found)


def _spelled_out(host: str) -> Sequence[str]:
    """Return the addresses that ``host`` is another spelling of, without a resolver.

    ``127.1``, ``0x7f000001`` and ``2130706433`` are all 127.0.0.1 to resolvers.
    """
    if host.rstrip(".").lower() == "localhost":
        return ("127.0.0.1",)
    if _is_address(host):
        return (host,)
    with suppress(OSError, ValueError):
        return (socket.inet_ntoa(socket.inet_aton(host)),)
    return ()


async def trickle(plan: FaultPlan, size: int) -> None:
    """Wait as a destination would that has just taken ``size`` bytes slowly."""
    rate = plan.knobs.slow_destination
    if rate is None:
        return
    if rate:
        await asyncio.sleep(size / rate)
    else:
        await plan.until(lambda knobs: knobs.slow_destination != 0)


def is_loopback(address: str) -> bool:
    """Say whether only this machine itself can reach ``address``."""
    return _is_address(address) and ipaddress.ip_address(address).is_loopback


def ends_session(flag: int, traits: AgentTraits) -> bool:
    """Say whether ``flag`` is TerminateSession, and the agent knows it."""
    return flag == Flag.TERMINATE_SESSION and traits.knows_terminate


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
