"""Traffic through other people's forwarders: an echo, and a check of the answer."""

import hashlib
import os
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager

PATIENCE = 60


@contextmanager
def echo_server(host="127.0.0.1"):
    """Yield the port of a server that sends back what it gets."""
    server = socket.create_server((host, 0))

    def serve():
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            threading.Thread(target=answer, args=[connection], daemon=True).start()

    def answer(connection):
        with connection:
            while data := connection.recv(65536):
                connection.sendall(data)

    threading.Thread(target=serve, daemon=True).start()
    with closing(server):
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)


def exchanged(port, data):
    """Return the digest of what comes back for ``data``."""
    with socket.create_connection(("127.0.0.1", port), PATIENCE) as connection:
        sender = threading.Thread(target=connection.sendall, args=[data])
        sender.start()
        digest, size = hashlib.sha256(), 0
        while size < len(data):
            piece = connection.recv(65536)
            if not piece:
                break
            digest.update(piece)
            size += len(piece)
        sender.join()
    return digest.hexdigest()


def come_back_whole(port, size=300_000, count=4):
    """Say whether data comes back through ``port`` as it was, alone and at once."""
    data = [os.urandom(size) for _ in range(count)]
    expected = [hashlib.sha256(piece).hexdigest() for piece in data]
    alone = exchanged(port, data[0])
    with ThreadPoolExecutor(count) as pool:
        at_once = list(pool.map(lambda piece: exchanged(port, piece), data))
    return (alone, at_once) == (expected[0], expected)
