"""A threaded HTTP server of big deterministic files.

``GET /SIZE/SEED`` answers ``noise(SIZE, SEED)``, in the version that the client speaks.
"""

import threading
from collections import Counter
from contextlib import contextmanager
from functools import lru_cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from tests.interop.content import noise

_PIECE = 64 * 1024
_PATIENCE = 60

# 200 downloads at once ask for few distinct files, and big ones are costly to make.
content = lru_cache(maxsize=256)(noise)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.server.wait_for_the_others()
        size, seed = (int(part) for part in self.path.strip("/").split("/"))
        body = memoryview(content(size, seed))
        self.send_response(200)
        self.send_header("Content-Length", str(size))
        self.end_headers()
        for start in range(0, size, _PIECE):
            piece = body[start : start + _PIECE]
            self.wfile.write(piece)
            self.server.sent[self.path] += len(piece)

    def log_message(self, format, *args):  # noqa: A002 - the base class names it so
        """Say nothing: hundreds of downloads would hide what matters."""


class HttpServer(ThreadingHTTPServer):
    """Counts what the kernel took of each path; use as a context manager."""

    daemon_threads = True
    request_queue_size = 256

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.port = self.server_address[1]
        self.sent = Counter()
        self._crowd = None
        self._thread = threading.Thread(target=self.serve_forever, daemon=True)
        self._thread.start()

    @contextmanager
    def answering_together(self, count):
        """Answer nobody before ``count`` have come, of which the test may be one."""
        self._crowd = threading.Barrier(count, timeout=_PATIENCE)
        try:
            yield self._crowd
        finally:
            self._crowd = None

    def wait_for_the_others(self):
        if self._crowd is not None:
            self._crowd.wait()

    def handle_error(self, request, client_address):
        """A client that goes away is the client's business."""

    def server_close(self):
        self.shutdown()
        self._thread.join()
        super().server_close()
