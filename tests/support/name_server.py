"""What name servers say, which no test may change: some names have no answer."""

import socket
import threading

PATIENCE = 30.0


class NameServer:
    """Stands for ``socket.getaddrinfo`` in a block.

    Names that begin with ``silent`` have no answer before :meth:`release`, and then no
    address.

    Attributes:
        known: The addresses of further names.
        asked: The names that were asked for, in order.
    """

    def __init__(self, monkeypatch):
        self._monkeypatch = monkeypatch
        self._original = socket.getaddrinfo
        self._released = threading.Event()
        self._held = set()
        self._changed = threading.Condition()
        self._present = 0
        self.known = {}
        self.asked = []

    def __enter__(self):
        self._monkeypatch.setattr(socket, "getaddrinfo", self._answer)
        return self

    def __exit__(self, *_):
        self.release()
        self.await_idle()
        self._monkeypatch.setattr(socket, "getaddrinfo", self._original)

    def hold(self, name):
        """Let a name have no answer before :meth:`release`."""
        self._held.add(name)

    def release(self):
        """Answer all that wait."""
        self._released.set()

    def await_idle(self):
        """Wait until nobody waits for an answer, and all have taken note of theirs."""
        with self._changed:
            assert self._changed.wait_for(lambda: not self._present, PATIENCE)
        for thread in threading.enumerate():
            if thread.name == "lookup":
                thread.join(PATIENCE)

    def await_asked(self, name, count=1):
        """Wait until a name has been asked for."""
        with self._changed:
            assert self._changed.wait_for(
                lambda: self.asked.count(name) >= count, PATIENCE
            )

    def _answer(self, host, port, *arguments, **options):
        with self._changed:
            self._present += 1
            self.asked.append(host)
            self._changed.notify_all()
        try:
            silent = str(host).startswith("silent")
            if silent or host in self._held:
                assert self._released.wait(PATIENCE)
            if silent:
                raise socket.gaierror(socket.EAI_AGAIN, "no answer")
            if host in self.known:
                return [
                    answer
                    for address in self.known[host]
                    for answer in self._original(address, port, *arguments, **options)
                ]
            return self._original(host, port, *arguments, **options)
        finally:
            with self._changed:
                self._present -= 1
                self._changed.notify_all()
