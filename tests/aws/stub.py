"""A stand-in for the endpoints that botocore calls: scripted, on loopback.

It knows nothing of sessions (the emulator does): it answers each operation with what
the test said, in turn, and keeps what it was asked.
"""

import json
import threading
from collections import defaultdict, deque
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

REGION = "eu-west-1"
SESSION = "alice-0f1e2d3c4b5a69788"
TOKEN = "AAEAAcanary-token-" + "t" * 200
STREAM = f"ws://127.0.0.1:9/v1/data-channel/{SESSION}?role=publish_subscribe"
CELL = "&cell-number=AAEAA+canary/cell=="


@dataclass(frozen=True)
class Reply:
    """An HTTP answer; ``body`` is JSON unless it is text."""

    status: int = 200
    body: object = field(default_factory=dict)


@dataclass(frozen=True)
class Asked:
    operation: str
    body: object
    headers: dict


GRANT = {"SessionId": SESSION, "TokenValue": TOKEN, "StreamUrl": STREAM}


def error(code, message="no", status=400, key="__type"):
    return Reply(status, {key: code, "message": message})


class Stub:
    """Scripted AWS endpoints on one loopback port.

    ``held`` names operations that wait for ``release`` before they are answered;
    ``arrived`` counts what was asked, so that a test can wait for it.
    """

    def __init__(self):
        self.scripts = defaultdict(deque)
        self.asked = []
        self.held = set()
        self.release = threading.Event()
        self.arrived = threading.Semaphore(0)
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = False
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.01}
        )
        self._thread.start()

    def answer(self, operation, *replies):
        """Give these replies in turn, the last one for ever."""
        self.scripts[operation] = deque(
            r if isinstance(r, Reply) else Reply(body=r) for r in replies
        )

    def calls(self, operation):
        return [asked.body for asked in self.asked if asked.operation == operation]

    def close(self):
        self.release.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def reply(self, asked):
        with self._lock:
            self.asked.append(asked)
            script = self.scripts[asked.operation]
            if not script:
                reply = error("UnknownOperationException", asked.operation)
            else:
                reply = script.popleft() if len(script) > 1 else script[0]
        self.arrived.release()
        if asked.operation in self.held:
            assert self.release.wait(30)
        return reply

    def _handler(stub):  # noqa: N805 - the handler below has a self of its own
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                self._reply(f"GET {urlsplit(self.path).path}", None)

            def do_PUT(self):
                self._reply(f"PUT {urlsplit(self.path).path}", None)

            def do_POST(self):
                text = self.rfile.read(int(self.headers["Content-Length"])).decode()
                if target := self.headers.get("X-Amz-Target"):
                    self._reply(target.partition(".")[2], json.loads(text))
                else:
                    form = {key: values[0] for key, values in parse_qs(text).items()}
                    self._reply(form.get("Action", "?"), form)

            def _reply(self, operation, body):
                headers = {k.lower(): v for k, v in self.headers.items()}
                reply = stub.reply(Asked(operation, body, headers))
                text = isinstance(reply.body, str)
                data = (reply.body if text else json.dumps(reply.body)).encode()
                kind = "text/xml" if text else "application/x-amz-json-1.1"
                self.send_response(reply.status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(data)))
                # Clients in botocore's providers keep connections, and this thread.
                self.send_header("Connection", "close")
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *args):
                pass

        return Handler
