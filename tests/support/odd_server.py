"""A server that says what no server should: any bytes, at any pace, without end."""

import contextlib
import re
import socket
import threading


class OddServer:
    """Listens on a free loopback port; each connection gets a thread and a script.

    Args:
        script: Called with each connection, and an event that is set at the end; may
            send anything. Whatever the client's leaving raises in it is passed over.
    """

    def __init__(self, script):
        self._script = script
        self._over = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._threads = [threading.Thread(target=self._accept)]
        self.port = self._listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.finished = threading.Semaphore(0)
        """Counts the connections that the client has let go of."""

    def __enter__(self):
        self._threads[0].start()
        return self

    def __exit__(self, *_):
        self._over.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                thread = threading.Thread(target=self._serve, args=(connection,))
                self._threads.append(thread)
                thread.start()

    def _serve(self, connection):
        with connection, contextlib.suppress(OSError):
            connection.settimeout(30)
            self._script(connection, self._over)
        self.finished.release()


def read_request(connection):
    """Read a request with its body: what is left unread would reset the connection."""
    received = b""
    while not _is_whole(received):
        some = connection.recv(65536)
        if not some:
            break
        received += some
    return received


def _is_whole(received):
    head, end, body = received.partition(b"\r\n\r\n")
    length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
    return bool(end) and len(body) >= (int(length[1]) if length else 0)


def saying(head, *rest):
    """Return a script that answers a request with ``head``, then all of ``rest``."""

    def script(connection, _over):
        read_request(connection)
        for part in (head, *rest):
            connection.sendall(part)

    return script


def repeating(head, part):
    """Return a script that answers with ``head``, and then ``part`` without end."""

    def script(connection, over):
        read_request(connection)
        connection.sendall(head)
        while not over.is_set():
            connection.sendall(part)

    return script


def trickling(head, part=b"x", pause=0.02):
    """Return a script that answers with ``head``, and ``part`` now and then."""

    def script(connection, over):
        read_request(connection)
        connection.sendall(head)
        while not over.wait(pause):
            connection.sendall(part)

    return script
