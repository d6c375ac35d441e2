"""Secrets that can be recognised wherever they turn up, and what might tell them."""

import base64
import gc
import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import quote

SECRET_KEY = "ckey7Qm2/Zt8Lp0+Vw5Rn3Xb9Jd6Hs1Gf4Ky"
SESSION_TOKEN = "ctok5Ua8+Wj2/Ne7Qz4Tm1Rv6Yp3Cx9Bk0Dh" * 4 + "=="
PAYLOAD = b"cpay3Lf8Gw1Ms6Zk9Xt4Qn7Bv2Hr5Jd0"

_PIECE = 12
"""Characters that cannot be a coincidence: a secret that is cut short is found too."""


def leaks(text, *secrets):
    """Return the pieces of ``secrets`` that are in ``text``, in any usual spelling."""
    return [
        spelling
        for secret in secrets
        for spelling in _spellings(secret)
        if any(
            spelling[i : i + _PIECE] in text
            for i in range(0, len(spelling) - _PIECE + 1, _PIECE)
        )
    ]


def _spellings(secret):
    data = secret if isinstance(secret, bytes) else secret.encode()
    text = data.decode()
    encoded = base64.b64encode(data).decode().rstrip("=")[:-1]
    return {text, quote(text, safe=""), encoded, data.hex()}


def chain(error):
    """Yield ``error``, and whatever it carries: causes, contexts, and those grouped."""
    seen, waiting = set(), [error]
    while waiting:
        current = waiting.pop()
        if current is None or id(current) in seen:
            continue
        seen.add(id(current))
        yield current
        waiting += [current.__cause__, current.__context__]
        waiting += getattr(current, "exceptions", ())


def objects_of(package):
    """Return the live instances of the classes of ``package``."""
    return [
        found
        for found in gc.get_objects()
        if str(type(found).__module__).partition(".")[0] == package
    ]


@contextmanager
def quoting_service():
    """Serve a worst case of AWS, and yield its URL.

    It refuses every call, and quotes in its message all that it was sent, as AWS does
    where a signature does not match.
    """
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Quoting)
    poll = {"poll_interval": 0.01}
    thread = threading.Thread(target=server.serve_forever, kwargs=poll)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Quoting(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        signed = " ".join(f"{k.lower()}:{v}" for k, v in self.headers.items())
        message = f"The signature of POST / {signed} {body} is not the expected one."
        code = "SignatureDoesNotMatch"
        answer = json.dumps({"__type": code, "message": message}).encode()
        self.send_response(403)
        self.send_header("Content-Type", "application/x-amz-json-1.1")
        self.send_header("Content-Length", str(len(answer)))
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_):
        """Say nothing: what a test prints is about the test."""
