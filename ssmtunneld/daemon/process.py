"""The process around a daemon: its signals, its files, its event loop."""

import asyncio
import os
import resource
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Final

from ssmtunneld.base.compartment import Defects, catch_callbacks
from ssmtunneld.base.deadline import REPORT_TIME, Deadline
from ssmtunneld.base.log import get_log
from ssmtunneld.base.thread_pool import ThreadPool
from ssmtunneld.config import Config, DaemonSettings
from ssmtunneld.daemon import memory
from ssmtunneld.daemon.daemon import Daemon
from ssmtunneld.daemon.instance_lock import Claim, claim_instance
from ssmtunneld.daemon.signals import ENDING, Answers, Signals, terminal_is_gone
from ssmtunneld.errors import SsmtunneldError
from ssmtunneld.listener.sockets import is_taken
from ssmtunneld.observe import logs
from ssmtunneld.serve.systemd import ServiceManager

ENDING_TIME: Final = 4.5
"""Seconds beyond ``Daemon.end_budget`` in which sessions are terminated and all is
tidied up; then the process ends as it is."""
OVERDUE: Final = 5.0
"""Seconds after which whoever looks on is shown how things are, ready or not."""
THREADS: Final = 32
"""Threads for files and long texts. Each of our services has one or two under way, and
can have them hang on files that lie where nobody answers; then the others go on."""
THREADS_TIME: Final = 1.0
"""Seconds that threads get to finish once the daemon has: a call in a thread cannot be
cancelled, and nobody needs its result any more."""


@contextmanager
def stop_on_signals(daemon: Daemon) -> Iterator[None]:
    """Let SIGTERM and SIGINT stop ``daemon``: once to drain, twice to end at once.

    So does SIGHUP, which a terminal sends that has gone, unless it was ignored (nohup).
    """
    answers: dict[int, Callable[[], None]] = dict.fromkeys(ENDING, daemon.stop)
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        answers[signal.SIGHUP] = daemon.stop
    with Signals() as signals, signals.answered(answers):
        yield


def run_daemon(
    config: Config,
    signals: Signals,
    log_as: Callable[[DaemonSettings], None] = lambda _: None,
    deadline: Deadline | None = None,
    announce: Callable[[dict[str, Any]], None] = lambda _: None,
    groups: Sequence[str] = (),
    overdue: float = OVERDUE,
) -> None:
    """Run the daemon until a signal ends it; uvloop where it imports.

    SIGTERM and SIGINT stop it, SIGHUP makes it reload.

    Args:
        config: What to run.
        signals: Has kept the signals that came since the start of the process.
        log_as: See :class:`Daemon`.
        deadline: Ends the process if threads hold it up.
        announce: Gets the status document once the daemon is ready, and before that
            if it takes longer than ``overdue``.
        groups: The groups by which ``config`` was chosen, and reloads are.
        overdue: Seconds.

    Raises:
        SsmtunneldError: It could not start.
    """
    # Before anything else opens files: descriptors are passed by number.
    manager = ServiceManager.of(os.environ, os.getpid())
    raise_file_limit()
    memory.bound_heaps()
    memory.begin()

    async def main() -> None:
        asyncio.get_running_loop().set_default_executor(ThreadPool(THREADS))
        catch_callbacks(asyncio.get_running_loop(), Defects(get_log()))
        with claim_instance(config.source) as claim:
            if claim.name is None:
                if not manager.sockets:
                    _refuse_twin(config, claim)
                _explain(config, claim)

            def when_ready() -> None:
                early.cancel()
                announce(daemon.status())
                memory.settle()

            daemon = Daemon(
                config,
                claim.name,
                manager,
                log_as,
                when_ready=when_ready,
                claim=claim.wait,
                renew=claim.renew,
                groups=groups,
            )
            signals.budget = lambda: daemon.end_budget + ENDING_TIME
            answers: Answers = {
                signal.SIGTERM: daemon.stop,
                signal.SIGINT: daemon.stop,
                signal.SIGHUP: lambda: _on_hangup(daemon, signals),
            }

            def when_overdue() -> None:
                announce(daemon.status())
                memory.settle()

            early = asyncio.get_running_loop().call_later(overdue, when_overdue)
            try:
                with signals.answered(answers):
                    await daemon.run()
            finally:
                early.cancel()

    others = set(threading.enumerate())
    runner = asyncio.Runner(loop_factory=loop_factory())
    try:
        runner.run(main())
        if deadline is not None:
            deadline.code = 0
    finally:
        if deadline is not None:
            deadline.arm(THREADS_TIME)
        # Waits for the threads of its executor, in one more; the deadline does, too.
        with suppress(RuntimeError):
            runner.close()
        _await_threads(set(threading.enumerate()) - others, THREADS_TIME, deadline)


def _await_threads(
    threads: Iterable[threading.Thread], patience: float, deadline: Deadline | None
) -> None:
    """Disarm the deadline if ``threads`` end: the interpreter would wait for them."""
    if deadline is None:
        return
    ends_at = time.perf_counter() + patience
    ours = [thread for thread in threads if not thread.daemon]
    for thread in ours:
        thread.join(max(0.0, ends_at - time.perf_counter()))
    if not any(thread.is_alive() for thread in ours):
        deadline.disarm()


def report_rest() -> None:
    """Say in the log what holds up the end of the process, for a :class:`Deadline`."""
    threads = [t.name for t in threading.enumerate() if not t.daemon]
    get_log().warning(
        "daemon.aborted",
        threads=", ".join(n for n in threads if n != threading.main_thread().name),
        reason="the daemon did not end in time",
    )
    # The queue of the log ends with the process, and may be what nobody takes.
    logs.flush(REPORT_TIME)


def _refuse_twin(config: Config, claim: Claim) -> None:
    """Raise an error if another daemon of this file has all of its addresses.

    One that finds an address runs beside the other one, and takes its place later.

    Raises:
        SsmtunneldError: It has.
    """
    wanted = [address for tunnel in config.enabled for address in tunnel.listen]
    if claim.holder is None or not wanted or not all(map(is_taken, wanted)):
        return
    twin = SsmtunneldError(f"a daemon runs this file already (pid {claim.holder})")
    twin.advice = "see it: ssmtunneld status; read the file again: ssmtunneld reload"
    raise twin


def _explain(config: Config, claim: Claim) -> None:
    """Say why this daemon has no instance, and what that means."""
    advice = "the other daemon answers ssmtunneld status and ends forgotten sessions"
    if claim.holder is None:
        advice = (
            "let STATE_DIRECTORY or XDG_STATE_HOME name a folder that this user can "
            "write, so that ssmtunneld status finds this daemon"
        )
    log = get_log()
    log.warning(
        "daemon.not_alone",
        config=str(config.source),
        pid=claim.holder,
        reason=claim.reason,
        advice=advice,
    )
    log.warning("control.failed", path="", reason=claim.reason)


def _on_hangup(daemon: Daemon, signals: Signals) -> None:
    if terminal_is_gone():
        signals.press()
        daemon.stop()
    else:
        daemon.request_reload()


def raise_file_limit() -> None:
    """Let this process open as many files as it may.

    A tunnel takes two and each connection one more, but the usual limit is 1024, for
    the sake of programs that call select().
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    # Some systems refuse "unlimited"; then the limit stays what it was.
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Return what makes an event loop: uvloop's, or ``None`` for the default."""
    try:
        import uvloop  # noqa: PLC0415 - optional: it has no wheels for some platforms
    except ImportError:
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory
