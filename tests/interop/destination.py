"""A destination whose listener can go away while its connections stay."""

import socket
import threading

TIMEOUT = 30


class Destination:
    """Hands its accepted connections to the test; use as a context manager."""

    def __init__(self, port):
        self._accepted = []
        self._changed = threading.Condition()
        self._listener = socket.create_server(("127.0.0.1", port))
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.refuse_from_now()
        for connection in self._accepted:
            connection.close()

    def accepted(self):
        """Return the next connection that arrived, the oldest first."""
        with self._changed:
            assert self._changed.wait_for(lambda: self._accepted, TIMEOUT)
            return self._accepted.pop(0)

    def refuse_from_now(self):
        """Stop listening; what was accepted lives on. Idempotent."""
        if self._listener.fileno() == -1:
            return
        # shutdown() wakes the thread in accept(), which close() alone would not.
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join(TIMEOUT)
        self._listener.close()

    def _accept(self):
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            connection.settimeout(TIMEOUT)
            with self._changed:
                self._accepted.append(connection)
                self._changed.notify()
