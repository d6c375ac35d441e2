"""A forwarder as a process: started from a template of its command, watched, killed.

The same code runs ours and any other one, so that both are measured alike.
"""

import contextlib
import os
import re
import shlex
import signal
import socket
import subprocess
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import psutil

from benchmarks import clients, processes

PLACEHOLDERS = {
    "endpoint": "URL of the emulator, for all services of AWS",
    "region": "region of AWS",
    "target": "id of the instance",
    "port": "port of the destination, as the instance sees it",
    "local_port": "port of 127.0.0.1 to listen on; needed",
}
REGION = "eu-west-1"
TARGET = "i-0123456789abcdef0"
MARK = "SSMTUNNELD_BENCHMARK"
"""Variable of the environment by which every process of a forwarder is found again."""

START_TIMEOUT = 30.0
PATIENCE = 5.0
"""Seconds between the request to end and the end by force."""
ANSWER = 5.0
"""Seconds after which a connection without an answer is followed by another one."""
POLL = 0.02
_LONGEST_REASON = 200

_PLACEHOLDER = re.compile(r"\{([a-z_]+)\}")
_Found = TypeVar("_Found")


class Failed(Exception):
    """A forwarder did not do what was asked of it; the words say what happened."""


def split(template: str) -> list[str]:
    """Return the words of a command as a shell would split them.

    Raises:
        ValueError: A quote is open, a placeholder is unknown, there is no word, or
            ``{local_port}`` is missing.
    """
    words = shlex.split(template)
    if not words:
        raise ValueError("there is no command")
    used = set(_PLACEHOLDER.findall(" ".join(words)))
    if unknown := used - PLACEHOLDERS.keys():
        known = ", ".join(f"{{{name}}}" for name in PLACEHOLDERS)
        raise ValueError(f"{{{min(unknown)}}} is not known; there are {known}")
    if "local_port" not in used:
        raise ValueError("{local_port} is missing: where would it listen?")
    return words


def fill(words: list[str], values: Mapping[str, object]) -> list[str]:
    """Return ``words`` with ``values`` for their placeholders.

    Other braces, such as those of JSON, stay as they are, and a word stays one word.
    """
    return [_PLACEHOLDER.sub(lambda m: str(values[m[1]]), word) for word in words]


def reason(error: BaseException) -> str:
    """Return the words of ``error`` in one line that is not too long."""
    words = " ".join(str(error).split()) or type(error).__name__
    if len(words) > _LONGEST_REASON:
        words = words[: _LONGEST_REASON - 3] + "..."
    return words


@dataclass(slots=True)
class Forwarder:
    """A running forwarder, with all processes that it started."""

    port: int
    """The local one."""
    process: subprocess.Popen[bytes]
    output: Path
    mark: str
    started_in: float = 0.0
    """Seconds from its start to the first answer through it."""
    overdue: str = field(default="", init=False)

    @property
    def cpu(self) -> float:
        """Seconds of processor time so far, of all its processes, dead ones too."""
        return sum(
            sum(times[:4])  # user and system, and the same of children that ended
            for each in self._tree()
            if (times := _unless_gone(each, psutil.Process.cpu_times))
        )

    @property
    def resident(self) -> int:
        """Bytes of resident memory, of all its processes together."""
        return sum(
            memory.rss
            for each in self._tree()
            if (memory := _unless_gone(each, psutil.Process.memory_info))
        )

    def _tree(self) -> list[psutil.Process]:
        try:
            first = psutil.Process(self.process.pid)
            return [first, *first.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def last_words(self) -> str:
        """Return the last line that it printed."""
        lines = self.output.read_text(errors="replace").split("\n")
        return next((line.strip() for line in reversed(lines) if line.strip()), "")

    @contextlib.contextmanager
    def within(self, seconds: float) -> Iterator[None]:
        """Kill it if the block takes longer, so that whoever waits for it goes on.

        Raises:
            Failed: The block raised an error of its connections, or it took longer,
                or the forwarder ended.
        """
        timer = threading.Timer(seconds, self._give_up, [seconds])
        timer.start()
        try:
            yield
        except OSError as error:
            raise Failed(self.overdue or self.account() or reason(error)) from error
        finally:
            timer.cancel()
            timer.join()
        if self.overdue:
            raise Failed(self.overdue)

    def _give_up(self, seconds: float) -> None:
        self.overdue = f"it took longer than {seconds:.0f} s"
        self.kill()

    def account(self) -> str:
        """Say how it ended, if it did."""
        status = self.process.poll()
        if status is None:
            return ""
        return f"it ended with {status}: {self.last_words() or 'without a word'}"

    def wait(self) -> None:
        """Wait until a line comes back through it.

        Raises:
            Failed: It ended, or nothing came back in time.
        """
        begun = time.perf_counter()
        deadline = begun + START_TIMEOUT
        latest = ""
        while (now := time.perf_counter()) < deadline:
            if end := self.account():
                raise Failed(end)
            try:
                # What listens before it can forward may swallow the first line.
                with socket.create_connection(
                    ("127.0.0.1", self.port), timeout=min(ANSWER, deadline - now)
                ) as client:
                    clients.echo(client)
            except OSError as error:
                latest = reason(error)
                time.sleep(POLL)
            else:
                self.started_in = time.perf_counter() - begun
                return
        raise Failed(f"no answer within {START_TIMEOUT:.0f} s: {latest}")

    def stop(self) -> None:
        """Ask it to end, and kill what is left of it after a while."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(PATIENCE)
        self.kill()

    def kill(self) -> None:
        """Kill it and whatever it started, in whichever group or session that is."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        deadline = time.perf_counter() + PATIENCE
        while (left := marked(self.mark)) and time.perf_counter() < deadline:
            for each in left:
                with contextlib.suppress(psutil.NoSuchProcess):
                    each.kill()
            time.sleep(POLL)


def _unless_gone(
    process: psutil.Process, read: Callable[[psutil.Process], _Found]
) -> _Found | None:
    try:
        return read(process)
    except (psutil.NoSuchProcess, psutil.ZombieProcess):
        return None


def marked(mark: str) -> list[psutil.Process]:
    """Return the processes in whose environment ``mark`` is."""
    return [each for each in psutil.process_iter() if _mark_of(each) == mark]


def _mark_of(process: psutil.Process) -> str | None:
    try:
        mark: str | None = process.environ().get(MARK)
    except (psutil.Error, OSError):
        return None
    return mark


@contextlib.contextmanager
def forwarder(
    words: list[str], endpoint: str, destination: int, folder: Path
) -> Iterator[Forwarder]:
    """Run a command until the block ends; wait until it forwards.

    Args:
        words: Of :func:`split`.
        endpoint: The emulator's URL.
        destination: The destination's port.
        folder: An empty one, its home.

    Raises:
        Failed: It cannot be started, or does not forward.
    """
    (port,) = processes.free_ports(1)
    values = {
        "endpoint": endpoint,
        "region": REGION,
        "target": TARGET,
        "port": destination,
        "local_port": port,
    }
    mark = uuid.uuid4().hex
    path = folder / "output"
    with path.open("wb") as output:
        try:
            process = subprocess.Popen(
                fill(words, values),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment(endpoint, folder, mark),
                start_new_session=True,
            )
        except OSError as error:
            raise Failed(reason(error)) from error
    found = Forwarder(port, process, path, mark)
    try:
        found.wait()
        yield found
    finally:
        found.stop()


def environment(endpoint: str, folder: Path, mark: str) -> dict[str, str]:
    """Return the environment of a forwarder, whose AWS is the emulator alone."""
    return {
        **processes.ENVIRONMENT,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ENDPOINT_URL_SSM": endpoint,
        "HOME": str(folder),
        "TMPDIR": str(folder),
        "XDG_CONFIG_HOME": str(folder),
        "XDG_STATE_HOME": str(folder),
        "PYTHONUNBUFFERED": "1",
        MARK: mark,
    }


@contextlib.contextmanager
def home() -> Iterator[Path]:
    """Yield a folder for a forwarder; its path is short, as sockets in it need."""
    with tempfile.TemporaryDirectory(prefix="beside-", ignore_cleanup_errors=True) as f:
        yield Path(f)
