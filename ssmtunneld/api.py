"""Tunnels from Python, for scripts and tests.

::

    async with ssmtunneld.open_tunnel("i-0123456789abcdef0", 5432) as tunnel:
        connection = await asyncpg.connect(host=tunnel.host, port=tunnel.port)

Nothing is printed: what the daemon would log goes to the logger ``ssmtunneld`` of the
standard library, which has no handler of its own.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TypeVar, assert_never

from typing_extensions import override

from ssmtunneld.base.sentences import with_advice
from ssmtunneld.config import TcpAddress, TunnelSettings, UnixAddress, parse_address
from ssmtunneld.daemon.context import DaemonContext
from ssmtunneld.daemon.tunnel import Tunnel
from ssmtunneld.errors import (
    NoSessionReady,
    Recovery,
    SsmtunneldError,
    TargetNotConnected,
    TargetNotFound,
    TunnelError,
)

_ErrorT = TypeVar("_ErrorT", bound=SsmtunneldError)


@dataclass(frozen=True, slots=True)
class LocalTunnel:
    """The local address of an open tunnel."""

    host: str
    """An IP address; empty for a Unix socket."""
    port: int
    """A TCP port; 0 for a Unix socket."""
    path: str = ""
    """The path of a Unix socket; empty for TCP."""

    @property
    def address(self) -> str:
        """The address in one piece: ``127.0.0.1:40123`` or ``unix:/path``."""
        if self.path:
            return f"unix:{self.path}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


@asynccontextmanager
async def open_tunnel(  # noqa: PLR0913 - one keyword for each setting, two of them positional
    target: str,
    port: int | None = None,
    *,
    host: str | None = None,
    listen: str = "127.0.0.1:0",
    profile: str | None = None,
    region: str | None = None,
    endpoint_url: str | None = None,
    document: str | None = None,
    parameters: Mapping[str, str | Sequence[str]] | None = None,
    max_sessions: int = 4,
    ready_timeout: float = 30.0,
) -> AsyncIterator[LocalTunnel]:
    """Keep a tunnel open for the life of a ``with`` block; yield its local address.

    Args:
        target: ``i-...``, ``mi-...`` or ``ecs:cluster_task_runtime``.
        port: The destination's port.
        host: The destination, as the target can reach it; ``None`` is the target.
        listen: Where to listen, as in the configuration; port 0 is any free one.
        profile: The AWS profile; ``None`` for the usual chain.
        region: The AWS region; ``None`` for the profile's.
        endpoint_url: The SSM API, where it is not the public one.
        document: A session document of your own.
        parameters: Its parameters.
        max_sessions: How many sessions may carry the connections together.
        ready_timeout: Seconds to wait for a first session.

    Connections that are open at the end of the block are reset, and every session is
    terminated. Cancelling has the same effect.

    Raises:
        ValueError: An argument makes no sense.
        AddressInUse: The local address is taken.
        AddressForbidden: This user must not listen there; a PermissionError, too.
        TunnelError: No session could be started within ``ready_timeout``; the kind
            says why, its ``advice`` what to do, and its text is both. At once if time
            does not heal it: no credentials, no permission, a wrong request, an
            untrusted certificate.
    """
    settings = TunnelSettings(
        name="tunnel",
        listen=(parse_address(listen),),
        target=target,
        port=port,
        host=host,
        profile=profile,
        region=region,
        endpoint_url=endpoint_url,
        document=document,
        parameters={
            name: (value,) if isinstance(value, str) else tuple(value)
            for name, value in (parameters or {}).items()
        },
        max_sessions=max_sessions,
    )
    shared = DaemonContext(start_rate=2.0, start_burst=4, named=False)
    tunnel = Tunnel(settings, shared)
    failure: Exception | None = None
    try:
        await _bind(tunnel)
        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(tunnel.run(), name="tunnel")
            try:
                failure = await _wait_ready(tunnel, ready_timeout)
                if failure is None:
                    yield _describe(tunnel)
            except Exception as error:  # noqa: BLE001 - raised again below
                # Passed through the task group it would come out as a group of one,
                # which nobody who wrote the block expects.
                failure = error
            finally:
                await tunnel.end(0)
                running.cancel()
    finally:
        await shared.controls.close()
    if failure is not None:
        raise failure


async def _bind(tunnel: Tunnel) -> None:
    try:
        await tunnel.server.bind()  # raises, where the tunnel's own only logs
    except SsmtunneldError as error:
        raise _explained(error) from None
    await tunnel.bind()


async def _wait_ready(tunnel: Tunnel, timeout: float) -> TunnelError | None:
    """Wait for a session; return why there is none, None if there is one."""
    pool = tunnel.pool
    trouble: TunnelError | None = None
    try:
        async with asyncio.timeout(timeout):
            await pool.wait_for(lambda: pool.ready or _is_hopeless(pool.trouble))
    except TimeoutError:
        trouble = pool.trouble or NoSessionReady(f"no session within {timeout:g} s")
    else:
        trouble = None if pool.ready else pool.trouble
    return None if trouble is None else _explained(trouble)


def _is_hopeless(trouble: TunnelError | None) -> bool:
    # A daemon waits until somebody has logged in, or was given a permission; whoever
    # runs a script sits before it. Only a target may come back by itself, or begin to
    # exist, unless AWS says that it will not.
    if trouble is None or isinstance(trouble, TargetNotFound):
        return False
    if isinstance(trouble, TargetNotConnected) and trouble.passes:
        return False
    return trouble.recovery in {Recovery.STOP, Recovery.WAIT}


class _Explained(SsmtunneldError):
    """An error whose text ends with its advice: a script shows nothing else of it."""

    @override
    def __str__(self) -> str:
        text = super().__str__()
        return with_advice(text, self.advice)


def _explained(error: _ErrorT) -> _ErrorT:
    """Return ``error`` of the same kind, with its advice in its text.

    It has no traceback: that of ``error`` goes through the whole pool, and would be
    printed above the one line that matters.
    """
    kind = type(error)
    names = {"__module__": kind.__module__, "__qualname__": kind.__qualname__}
    explained: type[_ErrorT] = type(kind.__name__, (_Explained, kind), names)
    told = explained.__new__(explained, *error.args)
    told.__dict__.update(vars(error))
    return told


def _describe(tunnel: Tunnel) -> LocalTunnel:
    address = parse_address(tunnel.server.bound[0])
    match address:
        case TcpAddress(host, port):
            return LocalTunnel(host, port)
        case UnixAddress(path):
            return LocalTunnel("", 0, str(path))
        case _:
            assert_never(address)
