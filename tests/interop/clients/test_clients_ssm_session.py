"""npm's ssm-session: messages whose digests are wrong, and whose types begin with NULs.

It never answers a handshake (it was made for agents of 2020), so no session of today
goes on with it: what is pinned here is that an agent takes its messages as they are.
"""

import json
import subprocess

from tests.interop.clients.test_clients_awscli import DOCUMENT
from tests.interop.conftest import TARGET
from tests.interop.programs import run

SCRIPT = """
const WebSocket = require("ws");
const { ssm } = require("ssm-session");
const [url, token] = process.argv.slice(1);
const link = new WebSocket(url);
link.binaryType = "arraybuffer";
const seen = [];
link.on("open", () => ssm.init(link, { token, termOptions: { rows: 34, cols: 197 } }));
link.on("message", (data) => {
  const message = ssm.decode(data);
  if (message.messageType.replace(/\\0/g, "") === "output_stream_data") {
    ssm.sendACK(link, message);
    seen.push(message.payloadType);
  } else {
    const text = String.fromCharCode(...message.payload);
    const number = JSON.parse(text).AcknowledgedMessageSequenceNumber;
    if (number === 0) ssm.sendText(link, "ls\\n");
    if (number === 1) {
      console.log(JSON.stringify({ seen }));
      process.exit(0);
    }
  }
});
setTimeout(() => process.exit(3), 30000);
"""


def test_its_messages_are_acknowledged(client, environ):
    folder = client("ssm-session")
    grant = start(environ)
    said = run(
        "node",
        "-e",
        SCRIPT,
        "--",
        grant["StreamUrl"],
        grant["TokenValue"],
        env={**environ, "NODE_PATH": str(folder / "node_modules")},
    )
    # The agent's handshake request, which it takes for something else.
    assert 5 in json.loads(said)["seen"]


def start(environ):
    body = json.dumps({"Target": TARGET, "DocumentName": DOCUMENT})
    done = subprocess.run(
        [
            "curl",
            "-sS",
            "-H",
            "X-Amz-Target: AmazonSSM.StartSession",
            "-d",
            body,
            environ["AWS_ENDPOINT_URL_SSM"],
        ],
        capture_output=True,
        check=True,
        env=environ,
    )
    return json.loads(done.stdout)
