"""A hostile gateway repeats the session's token in any spelling; nobody else learns it.

The whole path: from the words of a session's end to log, status, health, metrics, hook
and service manager.
"""

import base64
import html
import json
from urllib.parse import quote

from websockets.utils import accept_key

from tests.hostile.gateway import HostileService, hung_up
from tests.hostile.scene import beside, hostile
from tests.hostile.test_floods import OPENED, notified, said
from tests.integration.processes import await_line
from tests.serve.test_status_page import ask
from tests.support.bench import channel_closed
from tests.support.canary import leaks
from tests.support.hostile import CANARY

SPELLINGS = {
    "plain": CANARY,
    "hex": CANARY.encode().hex(),
    "HEX": CANARY.encode().hex().upper(),
    "base64": base64.b64encode(CANARY.encode()).decode(),
    "base64, shifted": base64.b64encode(b"x" + CANARY.encode()).decode(),
    "base64, for URLs": base64.urlsafe_b64encode(CANARY.encode()).decode(),
    "percent": quote(CANARY, safe=""),
    "percent throughout": "".join(f"%{ord(c):02x}" for c in CANARY),
    "JSON": "".join(f"\\u{ord(c):04x}" for c in CANARY),
    "HTML": html.escape("".join(f"&#{ord(c)};" for c in CANARY)),
    "repr": repr(CANARY + "\r\n"),
    "a piece": CANARY[3:21],
    "cut": "a" * 285 + CANARY,
}


async def test_a_token_that_is_repeated_is_told_to_nobody(tmp_path):
    async def converse(target, _, reader, writer, key):
        writer.write(
            b"HTTP/1.1 101 Go\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: %s\r\n\r\n" % accept_key(key).encode()
        )
        words = list(SPELLINGS.values())[target]
        writer.write(OPENED + said(channel_closed(f"token {words} is over")))
        await writer.drain()
        await hung_up(reader)

    told = tmp_path / "told"
    hook = ["sh", "-c", f"env >> {told}"]
    with (
        notified(tmp_path) as (environ, manager),
        HostileService(converse) as service,
    ):
        tables = hostile(service, len(SPELLINGS))
        settings = {"http_listen": "127.0.0.1:0", "on_state": hook}
        async with beside(tmp_path, *tables, environ=environ, **settings) as found:
            await service.ended(2, *range(len(SPELLINGS)))
            bound = await_line(found.program, "http.bound")["address"]
            texts = [
                (await ask(bound, path))[2]
                for path in ("/readyz?verbose", "/metrics", "/status.json", "/")
            ]
            await found.document(lambda _: told.exists() and told.stat().st_size > 99)
            found.check(await found.status())
            texts += [told.read_text(), manager.recv(65536).decode()]
            document = json.loads(await found.status())
    reasons = {m["name"]: m["reason"] for m in document["tunnels"]}
    for number, name in enumerate(SPELLINGS):
        if name != "cut":  # of that one only the beginning is kept
            reason = reasons[f"bad{number}"]
            assert "***" in reason or "not shown" in reason, name
    for text in texts:
        assert text
        assert leaks(text, CANARY) == []
        for name, spelled in SPELLINGS.items():
            assert spelled[:16] not in text.replace("a" * 16, ""), name
