"""A command in a real terminal of its own, and all that it writes there."""

import contextlib
import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
import threading

from tests.integration.world import PATIENCE

OWN_TERMINAL = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.SIG_DFL)  # in case we were started with "&"
os.close(os.open(os.ttyname(0), os.O_RDWR))
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""
"""A program that turns into Python with its arguments. The first process of a session
to open a terminal owns it: Ctrl-C works then, and closing the terminal sends SIGHUP."""


class Terminal:
    """Python with ``arguments`` in a pseudoterminal."""

    def __init__(self, *arguments, columns, rows=24, env=None, cwd=None):
        parent, child = pty.openpty()
        size = struct.pack("HHHH", rows, columns, 0, 0)
        fcntl.ioctl(child, termios.TIOCSWINSZ, size)
        environ = {**(os.environ if env is None else env), "TERM": "xterm-256color"}
        for name in ("COLUMNS", "LINES"):  # those of whoever runs the tests
            environ.pop(name, None)
        self.process = subprocess.Popen(
            [sys.executable, "-c", OWN_TERMINAL, *map(str, arguments)],
            stdin=child,
            stdout=child,
            stderr=child,
            env=environ,
            cwd=cwd,
            start_new_session=True,
        )
        os.close(child)
        self._screen = parent
        self._seen = b""
        self._changed = threading.Condition()
        self._ended = False
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self):
        with contextlib.suppress(OSError):  # how Linux tells the end of a terminal
            while data := os.read(self._screen, 65536):
                with self._changed:
                    self._seen += data
                    self._changed.notify_all()
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    @property
    def raw(self):
        """The program's output so far, with its escape sequences."""
        with self._changed:
            return self._seen.decode()

    def wait_for(self, pattern):
        """Wait until ``pattern`` has been written."""
        with self._changed:
            self._changed.wait_for(
                lambda: self._ended or re.search(pattern, self._seen.decode()), PATIENCE
            )
        assert re.search(pattern, self.raw), self.raw

    def type(self, text):
        """Write ``text`` as if somebody typed it."""
        os.write(self._screen, text.encode())

    def close(self):
        """Wait for the command's end; return its exit code."""
        try:
            return self.process.wait(PATIENCE)
        finally:
            self.process.kill()
            self.process.wait()
            self._reader.join(PATIENCE)
            os.close(self._screen)
