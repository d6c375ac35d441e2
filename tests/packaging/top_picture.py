"""The picture of `ssmtunneld top` in docs/guide.md: textual's own of what it draws.

The daemon is made up, because a real one never says the same twice. ``python -m
tests.packaging.top_picture`` (``make picture``) writes it after a change of the screen.
"""

import asyncio
import html
import re
from pathlib import Path

from ssmtunneld.cli.top.app import Board, Told, TopApp
from ssmtunneld.cli.top.daemon_source import DaemonSource, Snapshot
from tests.cli.household import (
    connection_document,
    document,
    event_document,
    session_document,
    tunnel_document,
)
from tests.support.tui import showing

PICTURE = Path(__file__).parents[2] / "docs" / "top.svg"
COLUMNS, ROWS = 110, 26
BASTION = "i-0182d91e85d69cf00"

_FONTS = re.compile(r"@font-face \{.*?\}\s*", re.DOTALL)
"""Fonts that a reader's browser would fetch from elsewhere."""


def _tunnel(name, port, destination, **changes):
    return tunnel_document(
        name,
        listen=[f"127.0.0.1:{port}"],
        destination=destination,
        target=BASTION,
        **changes,
    )


def _status(moved):
    """Return the status after ``moved`` bytes a tunnel."""
    return document(
        _tunnel(
            "orders-db",
            5432,
            "orders.internal:5432",
            connections=3,
            sent=moved // 9,
            received=moved,
            sessions=[
                session_document(1, streams=2, rate=31_000),
                session_document(2, streams=1, rate=512_000, age=1861.0),
            ],
        ),
        _tunnel(
            "wiki",
            8080,
            "wiki.internal:80",
            connections=1,
            sent=moved // 40,
            received=moved // 3,
            sessions=[session_document(1, streams=1, rtt=0.0187)],
        ),
        _tunnel(
            "reports",
            3306,
            "reports.internal:3306",
            connections=0,
            state="needs_login",
            usable=False,
            reason="the login of profile prod has expired",
            advice="run: aws sso login --profile prod",
            sent=0,
            received=0,
            sessions=[],
        ),
        _tunnel(
            "cache", 6379, "cache.internal:6379", connections=0, sent=0, received=0
        ),
        program="0.2.0",
        pid=4242,
        uptime=93_784,
        config="~/tunnels.toml",
    )


def _connection(name, program, pid, **changes):
    return connection_document(
        name,
        tunnel="orders-db",
        program=program,
        pid=pid,
        destination="orders.internal:5432",
        **changes,
    )


CONNECTIONS = [
    _connection("7c1e0a-17", "psql", 8121),
    _connection("7c1e0a-19", "pg_dump", 8310, age=12.0, received=6_291_456),
    _connection("7c1e0a-23", "dbeaver", 6604, age=3720.0, sent_rate=0),
    connection_document(
        "7c1e0a-24",
        tunnel="wiki",
        program="firefox",
        pid=3311,
        destination="wiki.internal:80",
    ),
]
EVENTS = [
    event_document(1, tunnel="orders-db"),
    event_document(2, "session.ready", tunnel="orders-db"),
]


class MadeUp(DaemonSource):
    """A daemon that has told everything already."""

    def __init__(self):
        super().__init__(None, clock=lambda: 0.0)
        self.after = 0

    def look(self):
        self.after += 1
        connections = {"version": 1, "connections": CONNECTIONS, "more": 0}
        status = _status(self.after * 400_000)
        return Snapshot(status, connections, tuple(EVENTS), float(self.after))


async def _drawn():
    source = MadeUp()
    # Nothing is asked again: an hour between two looks.
    board = Board(source, source.look(), 3600.0, wall_clock=lambda: 0.0)
    app = TopApp(lambda: board)
    async with showing(app, COLUMNS, ROWS) as pilot:
        board.post_message(Told(source.look()))
        await pilot.press("down", "down")
        await pilot.pause()
        return app.export_screenshot(title="ssmtunneld top")


def draw():
    """Return the picture, as one SVG document that needs nothing else."""
    return _FONTS.sub("", asyncio.run(_drawn()))


def texts_of(svg):
    """Return the texts of a picture, line by line."""
    texts = re.findall(r"<text [^>]*>(.*?)</text>", svg, re.DOTALL)
    return [html.unescape(text).replace("\N{NO-BREAK SPACE}", " ") for text in texts]


if __name__ == "__main__":
    PICTURE.write_text(draw() + "\n", "utf-8")
