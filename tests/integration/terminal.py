"""A command in a real terminal of its own, and all that it writes there."""

import codecs
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

import pyte

from tests.integration.world import PATIENCE

OWN_TERMINAL = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.SIG_DFL)  # in case we were started with "&"
os.close(os.open(os.ttyname(0), os.O_RDWR))
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""
"""A program that turns into Python with its arguments. The first process of a session
to open a terminal owns it: Ctrl-C works then, and closing the terminal sends SIGHUP."""

_HALF = re.compile(rb"\x1b(\[[0-?]*[ -/]*)?$")
"""The beginning of a control sequence whose rest has not arrived."""
_LATER = re.compile(r"\x1b\[[<>=][0-9;]*[a-zA-Z]|\x1b\[\?[0-9;]*\$p")
"""Sequences of newer terminals, which the one that we have would print."""


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


class Screen(Terminal):
    """A terminal whose screen can be looked at."""

    def __init__(self, *arguments, columns=80, rows=24, **others):
        self._display = pyte.Screen(columns, rows)
        self._stream = pyte.Stream(self._display)
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._fed = 0
        super().__init__(*arguments, columns=columns, rows=rows, **others)

    def see(self, pattern):
        """Wait until some text is on the screen; return the whole screen then."""
        with self._changed:
            self._changed.wait_for(
                lambda: self._ended or re.search(pattern, self._text()), PATIENCE
            )
            text = self._text()
        assert re.search(pattern, text), text
        return text

    def see_no_more(self, text):
        """Wait until ``text`` is not on the screen."""
        with self._changed:
            gone = self._changed.wait_for(
                lambda: self._ended or text not in self._text(), PATIENCE
            )
        assert gone, text

    def _text(self):
        # Only what is new: pyte is slow, and the emulator's thread would have to wait.
        new = self._seen[self._fed :]
        if (half := _HALF.search(new)) is not None:
            new = new[: half.start()]
        self._fed += len(new)
        self._stream.feed(_LATER.sub("", self._decoder.decode(new)))
        return "\n".join(line.rstrip() for line in self._display.display)
