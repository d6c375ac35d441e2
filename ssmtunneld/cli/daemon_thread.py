"""A daemon within a command: it runs in a thread, the command in the main one.

So a command can run another program, ask at the terminal, or wait for Ctrl-C, all of
which block and belong to the main thread, while bytes flow.
"""

import asyncio
import threading
import time
from concurrent.futures import Future
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, Any, Final, Self

from ssmtunneld.base.threads import start
from ssmtunneld.cli.asides import tell
from ssmtunneld.cli.ending_signals import EndingSignals
from ssmtunneld.cli.exit_codes import CommandError
from ssmtunneld.daemon.signals import FORCED_BUDGET
from ssmtunneld.errors import SsmtunneldError

if TYPE_CHECKING:
    from ssmtunneld.config import Config
    from ssmtunneld.daemon.daemon import Daemon

_ENDED: Final = "the tunnels have ended"
_USUAL_END: Final = 1.0
"""Seconds in which sessions end where AWS can be reached."""
_PATIENCE: Final = 0.2
"""Seconds to wait for an answer before looking whether the thread still lives."""
_SIGNAL_CHECK: Final = 0.05
"""Seconds between looks at the signals, at the end."""


class DaemonThread:
    """A daemon for the life of a ``with`` block; its sessions end with the block.

    Args:
        config: What it runs. It serves no control socket.
        signals: Entered before the block, and interrupting only within it, so that no
            daemon is left half begun or half ended; one that comes at the end hurries.
        patience: Seconds in which sessions must have ended then.
    """

    def __init__(
        self, config: "Config", signals: EndingSignals, patience: float = FORCED_BUDGET
    ) -> None:
        self._config = config
        self._signals = signals
        self._hurried_patience = patience
        self._thread = threading.Thread(target=self._run, name="daemon", daemon=True)
        self._begun = threading.Event()
        self._ended = threading.Event()
        self._failure: BaseException | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._daemon: Daemon | None = None

    def __enter__(self) -> Self:
        """Start it; returns before it listens.

        Raises:
            NoThread: The system allows no further thread.
            SsmtunneldError: It cannot start.
        """
        with ExitStack() as unless_entered:
            unless_entered.push(self.__exit__)
            start(self._thread)
            self._begun.wait()
            self._check()
            unless_entered.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        """End it: reset what is open, terminate every session.

        Says so if that takes long, because AWS cannot be reached. It still runs
        afterwards if a signal came meanwhile and its patience is over.
        """
        came = self._signals.came
        if self._thread.ident is None:
            return  # it could not even start
        self._begun.wait()
        self._stop()
        says_at: float | None = _clock() + _USUAL_END
        gives_up_at: float | None = None
        # Not by joining: Python 3.11 takes a thread for ended if that is interrupted.
        while not self._ended.wait(_SIGNAL_CHECK):
            now = _clock()
            if gives_up_at is not None and now >= gives_up_at:
                return
            if gives_up_at is None and self._signals.came > came:
                self._stop()
                gives_up_at = now + self._hurried_patience
            if says_at is not None and now >= says_at:
                says_at = None
                limit = f"{self._hurried_patience:g} s"
                tell(
                    f"ending sessions at AWS; after another Ctrl-C for {limit} at most"
                )
        self._thread.join()

    def _stop(self) -> None:
        if self._daemon is not None and self._loop is not None:
            with suppress(RuntimeError):  # it has ended by itself: its loop is closed
                self._loop.call_soon_threadsafe(self._daemon.stop)

    @property
    def alive(self) -> bool:
        """True if it still runs after the block, because nobody waited for its end."""
        return self._thread.ident is not None and not self._ended.is_set()

    def request_access(self, reason: str) -> None:
        """Ask for access to the node of its tunnels, which share it.

        Raises:
            SsmtunneldError: AWS refuses, or it has ended by itself.
        """
        assert self._loop is not None, "entered"
        assert self._daemon is not None, "entered"
        name = self._config.tunnels[0].name
        asking = self._daemon.request_access(name, reason)
        answer = asyncio.run_coroutine_threadsafe(asking, self._loop)
        self._await(answer)

    def document(self) -> dict[str, Any]:
        """Return its status document (``docs/status.md``).

        Raises:
            SsmtunneldError: It has ended by itself; says why.
        """
        assert self._loop is not None, "entered"
        answer: Future[dict[str, Any]] = Future()
        try:
            self._loop.call_soon_threadsafe(self._answer, answer)
        except RuntimeError:  # its loop is closed
            self._check()
            raise CommandError(_ENDED) from None
        return self._await(answer)

    def _await(self, answer: "Future[dict[str, Any]]") -> dict[str, Any]:
        while True:
            with suppress(TimeoutError):
                return answer.result(_PATIENCE)
            self._check()

    def _answer(self, answer: "Future[dict[str, Any]]") -> None:
        assert self._daemon is not None, "entered"
        answer.set_result(self._daemon.status())

    def _check(self) -> None:
        if self._failure is not None:
            raise self._failure
        if self._ended.is_set():
            raise CommandError(_ENDED)

    def _run(self) -> None:
        from ssmtunneld.daemon.process import loop_factory

        try:
            with asyncio.Runner(loop_factory=loop_factory()) as runner:
                runner.run(self._serve())
        except BaseException as error:  # noqa: BLE001 - raised again where it is asked for
            self._failure = error
        finally:
            self._ended.set()
            self._begun.set()

    async def _serve(self) -> None:
        from ssmtunneld.daemon.daemon import Daemon

        self._loop = asyncio.get_running_loop()
        self._daemon = Daemon(self._config, named=False)
        self._begun.set()
        try:
            await self._daemon.run()
        except SsmtunneldError:
            # That nothing can listen has a reason, which a command says itself.
            for tunnel in self._daemon.tunnels:
                if isinstance(tunnel.unbound, SsmtunneldError):
                    raise tunnel.unbound from None
            raise


def _clock() -> float:
    return time.monotonic_ns() / 1e9
