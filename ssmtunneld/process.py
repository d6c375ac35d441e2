"""The process around a daemon: its signals, its files, its event loop."""

import asyncio
import gc
import os
import resource
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from ssmtunneld.config import Config, DaemonSettings
from ssmtunneld.daemon import Daemon
from ssmtunneld.instance import claim_instance
from ssmtunneld.log import get_log
from ssmtunneld.ops.systemd import ServiceManager
from ssmtunneld.signals import Answers, Signals, terminal_is_gone


@contextmanager
def stop_on_signals(daemon: Daemon) -> Iterator[None]:
    """Let SIGTERM and SIGINT stop ``daemon``: once to drain, twice to end at once."""
    answers: Answers = {signal.SIGTERM: daemon.stop, signal.SIGINT: daemon.stop}
    with Signals() as signals, signals.answered(answers):
        yield


def run_daemon(
    config: Config,
    signals: Signals,
    log_as: Callable[[DaemonSettings], None] = lambda _: None,
) -> None:
    """Run the daemon until a signal ends it; uvloop where it imports.

    SIGTERM and SIGINT stop it, SIGHUP makes it reload.

    Args:
        config: What to run.
        signals: Has kept the signals that came since the start of the process.
        log_as: See :class:`Daemon`.

    Raises:
        SsmtunneldError: It could not start.
    """
    # Before anything else opens files: descriptors are passed by number.
    manager = ServiceManager.of(os.environ, os.getpid())
    raise_file_limit()

    async def main() -> None:
        with claim_instance(config.source) as instance:
            if instance is None:
                get_log().warning("daemon.not_alone", config=str(config.source))
            # What exists once all is ready stays, most of it botocore's models; the
            # collector's look through all of it takes 40 ms, in which nothing moves.
            daemon = Daemon(config, instance, manager, log_as, when_ready=gc.freeze)
            answers: Answers = {
                signal.SIGTERM: daemon.stop,
                signal.SIGINT: daemon.stop,
                signal.SIGHUP: lambda: _on_hangup(daemon),
            }
            with signals.answered(answers):
                await daemon.run()

    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(main())


def _on_hangup(daemon: Daemon) -> None:
    if terminal_is_gone():
        daemon.stop()
    else:
        daemon.request_reload()


def raise_file_limit() -> None:
    """Let this process open as many files as it may.

    A mapping takes two and each connection one more, but the usual limit is 1024, for
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
