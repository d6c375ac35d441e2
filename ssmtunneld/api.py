"""Tunnels from Python, for scripts, applications and tests.

::

    with ssmtunneld.open_tunnel("i-0123456789abcdef0", 5432) as tunnel:
        connection = psycopg.connect(host=tunnel.host, port=tunnel.port)

    async with ssmtunneld.open_tunnel("i-0123456789abcdef0", 5432) as tunnel:
        connection = await asyncpg.connect(host=tunnel.host, port=tunnel.port)

Nothing is printed: what the daemon would log goes to the logger ``ssmtunneld`` of the
standard library, which has no handler of its own. See docs/python.md.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, TypeGuard, TypeVar, assert_never

from pydantic import ValidationError
from typing_extensions import override

from ssmtunneld.base.loop_thread import LoopThread
from ssmtunneld.base.paths import home
from ssmtunneld.base.redaction import redact
from ssmtunneld.base.sentences import with_advice
from ssmtunneld.base.threads import NoThread
from ssmtunneld.config import TcpAddress, TunnelSettings, UnixAddress, parse_address
from ssmtunneld.config.lines import KeyPath
from ssmtunneld.config.tables import problems_of
from ssmtunneld.config.targets import describe_target
from ssmtunneld.daemon.context import DaemonContext
from ssmtunneld.daemon.process import loop_factory
from ssmtunneld.daemon.tunnel import Tunnel
from ssmtunneld.errors import (
    NoSessionReady,
    Recovery,
    SsmtunneldError,
    TargetNotConnected,
    TunnelError,
    recreate,
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


class TunnelBlock:
    """A tunnel for the life of a ``with`` or ``async with`` block; see `open_tunnel`.

    With ``async with`` it runs on the caller's loop. With ``with`` it has a loop in a
    thread of its own: the block can block, and can be where a loop runs already. A
    process that forks inside the block has the tunnel, its children have not.
    """

    def __init__(self, settings: TunnelSettings, ready_timeout: float) -> None:
        self._settings = settings
        self._ready_timeout = ready_timeout
        self._thread: LoopThread[LocalTunnel] | None = None
        self._running: AbstractAsyncContextManager[LocalTunnel] | None = None

    def __enter__(self) -> LocalTunnel:
        """Open it; blocks until a session is ready."""
        self._refuse_twice()
        self._thread = LoopThread(
            self._run(), name="ssmtunneld tunnel", loop_factory=loop_factory()
        )
        try:
            return self._thread.start()
        except SsmtunneldError as error:
            # Where it was on the thread's loop tells whoever opened it nothing.
            raise error.with_traceback(None) from None
        except NoThread as error:
            raise _threadless(error) from None

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        """Reset what is open and terminate every session; blocks until that is done.

        Ctrl-C ends the waiting, and leaves sessions to Session Manager's idle timeout.
        """
        assert self._thread is not None, "not entered"
        self._thread.stop()

    async def __aenter__(self) -> LocalTunnel:
        """Open it, on this loop."""
        self._refuse_twice()
        self._running = self._run()
        return await self._running.__aenter__()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Reset what is open and terminate every session."""
        assert self._running is not None, "not entered"
        await self._running.__aexit__(kind, error, traceback)

    def _run(self) -> AbstractAsyncContextManager[LocalTunnel]:
        return _run(self._settings, self._ready_timeout)

    def _refuse_twice(self) -> None:
        if self._thread is not None or self._running is not None:
            raise RuntimeError("this tunnel was opened before: call open_tunnel again")


def open_tunnel(  # noqa: PLR0913 - one keyword for each setting, two of them positional
    target: str,
    port: int | None = None,
    *,
    host: str | None = None,
    listen: str | int = "127.0.0.1:0",
    profile: str | None = None,
    region: str | None = None,
    endpoint_url: str | None = None,
    document: str | None = None,
    parameters: Mapping[str, str | Sequence[str]] | None = None,
    max_sessions: int = 4,
    ready_timeout: float = 30.0,
) -> TunnelBlock:
    """Keep a tunnel open for the life of a block; the block gets its local address.

    The result is for ``with`` or for ``async with``, once.

    Args:
        target: As in the configuration: ``i-...``, ``mi-...``, ``name:web-1``,
            ``tag:Key=Value``, ``asg:NAME``, ``ip:10.0.0.5``, ``dns:NAME``,
            ``ecs:cluster/service`` or ``ecs:cluster_task_runtime``.
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
        ValueError: An argument makes no sense; says which, and what to write.

    Entering the block raises:

    AddressInUse: The local address is taken.
    AddressForbidden: This user must not listen there; a PermissionError, too.
    TunnelError: No session could be started within ``ready_timeout``; the kind says
        why, its ``advice`` what to do, and its text is both. At once if time does not
        heal it: no credentials, no permission, a wrong request, nothing that matches
        ``target``, an untrusted certificate.
    """
    given = {
        "name": "tunnel",
        "listen": _address(listen),
        "target": target,
        "port": port,
        "host": host,
        "profile": profile,
        "region": region,
        "endpoint_url": endpoint_url,
        "document": document,
        "parameters": _parameters(parameters),
        "max_sessions": max_sessions,
    }
    try:
        settings = TunnelSettings.model_validate(given)
    except ValidationError as error:
        # Its own text is for whoever writes a model.
        raise ValueError(_complaint(error)) from None
    return TunnelBlock(settings, _seconds(ready_timeout))


def _address(listen: object) -> TcpAddress | UnixAddress:
    try:
        return parse_address(listen, home())
    except ValueError as error:
        raise ValueError(f"listen: {listen!r} {error}") from None


def _parameters(given: object) -> object:
    """Return parameters as the model takes them; it refuses what makes no sense."""
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        return given
    return {
        name: list(value) if _is_list(value) else value for name, value in given.items()
    }


def _is_list(value: object) -> TypeGuard[Sequence[object]]:
    return isinstance(value, Sequence) and not isinstance(value, str | bytes)


def _seconds(ready_timeout: object) -> float:
    match ready_timeout:
        case bool():
            pass  # which is an int
        case int() | float() if ready_timeout > 0:
            return ready_timeout
        case _:
            pass
    raise ValueError(
        f"ready_timeout: {ready_timeout!r} is no number of seconds above 0"
    )


_OPEN: Final = (
    "other machines can reach this address: write one of this machine alone, such as "
    "127.0.0.1:0, or unix:/path"
)


def _complaint(error: ValidationError) -> str:
    """Return what is wrong with the arguments, in one line."""
    values = {detail["loc"]: detail["input"] for detail in error.errors()}
    complaints = []
    for path, words in problems_of(error):
        if path == ("allow",):  # which is no argument
            complaints.append(f"listen: {_OPEN}")
            continue
        value = values.get(path)
        text = words
        if isinstance(value, str) and words.startswith(("is ", "has ")):
            is_target = path == ("target",)
            text = describe_target(value, words) if is_target else f"{value!r} {words}"
        complaints.append(": ".join([_argument(path), text]))
    # A URL can carry a password.
    return redact("; ".join(dict.fromkeys(complaints)))


def _argument(path: KeyPath) -> str:
    """Return what a value is called: ``port``, ``parameters.host``."""
    # Without the place in a list of values, and pydantic's word for a key.
    return ".".join(p for p in path if isinstance(p, str) and p not in {"", "[key]"})


@asynccontextmanager
async def _run(
    settings: TunnelSettings, ready_timeout: float
) -> AsyncIterator[LocalTunnel]:
    """Run a tunnel on this loop for the life of the block."""
    shared = DaemonContext(start_rate=2.0, start_burst=4, named=False)
    tunnel = Tunnel(settings, shared)
    failure: BaseException | None = None
    try:
        await _bind(tunnel)
        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(tunnel.run(), name="tunnel")
            try:
                failure = await _wait_ready(tunnel, ready_timeout)
                if failure is None:
                    yield _describe(tunnel)
            except asyncio.CancelledError:
                raise
            except BaseException as error:  # noqa: BLE001 - raised again below
                # Passed through the task group it would come out as a group of one,
                # which nobody who wrote the block expects: pytest's skip() is one.
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
    # runs a script sits before it. Only a target may come back by itself, unless AWS
    # says that it will not, or knows of none: that is mostly a name which is mistyped.
    if trouble is None:
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

    @override
    def __reduce__(self) -> tuple[Any, ...]:
        # The class is nowhere to be imported from.
        _, kind = type(self).__bases__
        return _explained, (recreate(kind, self.args, vars(self)),)


def _explained(error: _ErrorT) -> _ErrorT:
    """Return ``error`` of the same kind, with its advice in its text.

    It has no traceback: that of ``error`` goes through the whole pool, and would be
    printed above the one line that matters.
    """
    kind = type(error)
    names = {"__module__": kind.__module__, "__qualname__": kind.__qualname__}
    explained: type[_ErrorT] = type(kind.__name__, (_Explained, kind), names)
    return recreate(explained, error.args, vars(error))


def _threadless(error: NoThread) -> NoSessionReady:
    return NoSessionReady(f"no session: {error.strerror}")


def _describe(tunnel: Tunnel) -> LocalTunnel:
    address = parse_address(tunnel.server.bound[0])
    match address:
        case TcpAddress(host, port):
            return LocalTunnel(host, port)
        case UnixAddress(path):
            return LocalTunnel("", 0, str(path))
        case _:
            assert_never(address)
