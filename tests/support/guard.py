"""A gate in front of an emulator: lets those calls through that a policy allows.

The websocket does not pass here: it is the emulator's own.
"""

import http.server
import json
import threading
from contextlib import contextmanager
from urllib.error import HTTPError
from urllib.request import ProxyHandler, Request, build_opener

from tests.support.iam import allows, resources

ARN = "arn:aws:iam::111122223333:user/dev"


class Guard:
    """One principal, and what its policy says of each call.

    Args:
        endpoint: Where the emulator listens.
        statements: The policy's; may be replaced at any time.
        context: Condition keys and variables that are known of all its calls.
    """

    def __init__(self, endpoint, statements, context):
        self.endpoint = endpoint
        self.statements = statements
        self.context = context
        self.allowed = set()
        self.denied = set()

    def refusal(self, operation, body):
        """Return what IAM says against a call; empty if nothing."""
        action = f"ssm:{operation}"
        for resource in resources(operation, body):
            if not allows(self.statements, action, resource, self.context):
                self.denied.add(action)
                return (
                    f"User: {ARN} is not authorized to perform: {action} on resource: "
                    f"{resource} because no identity-based policy allows the {action} "
                    "action"
                )
        self.allowed.add(action)
        return ""

    def forward(self, headers, data):
        """Return the emulator's own status and answer."""
        kept = {name: headers[name] for name in ("X-Amz-Target", "Content-Type")}
        request = Request(self.endpoint, data=data, headers=kept, method="POST")
        try:
            with build_opener(ProxyHandler({})).open(request) as answer:
                return answer.status, answer.read()
        except HTTPError as error:
            with error:
                return error.code, error.read()


@contextmanager
def guarding(endpoint, statements, context=None):
    """Run a guard; yield it, with its own ``url``."""
    guard = Guard(endpoint, statements, dict(context or {}))

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self._reply(404, b"")

        def do_POST(self):
            data = self.rfile.read(int(self.headers["Content-Length"]))
            operation = self.headers["X-Amz-Target"].partition(".")[2]
            said = guard.refusal(operation, json.loads(data))
            if said:
                refused = {"__type": "AccessDeniedException", "Message": said}
                self._reply(400, json.dumps(refused).encode())
            else:
                self._reply(*guard.forward(self.headers, data))

        def _reply(self, status, data):
            self.send_response(status)
            self.send_header("Content-Type", "application/x-amz-json-1.1")
            self.send_header("Content-Length", str(len(data)))
            self.send_header("Connection", "close")
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *args):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        guard.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(
            target=server.serve_forever, kwargs={"poll_interval": 0.01}
        )
        thread.start()
        try:
            yield guard
        finally:
            server.shutdown()
            thread.join()
