"""The README's picture: what a terminal really shows, as an SVG.

Two commands are typed into pseudo-terminals at an emulator with two nodes, and a
download runs meanwhile; the picture is what they print. ``python -m
tests.packaging.picture`` (``make picture``) writes it after a change of their words.
"""

import os
import re
import socket
import tempfile
import threading
from contextlib import contextmanager
from pathlib import Path
from xml.sax.saxutils import escape

from ssmtunneld.emulator.settings import EmulatorSettings, Node, Pace
from ssmtunneld.testing import EmulatorThread
from tests.integration.terminal import Terminal

PICTURE = Path(__file__).parents[2] / "docs" / "open.svg"
COLUMNS = 96
NODES = {
    "i-0182d91e85d69cf00": Node(
        name="bastion-1", address="10.0.3.17", tags={"Role": "bastion"}
    ),
    "i-0a1b2c3d4e5f60718": Node(
        name="web-1", address="10.0.4.88", tags={"Role": "web"}
    ),
}
TARGET = "tag:Role=bastion"

_ADVANCE, _LINE, _MARGIN, _BAR = 8.4, 20, 18, 30
_TEXT, _DIM, _GREEN, _GROUND = "#d8dee9", "#7b8494", "#8fd694", "#1d2129"
_LEADS_AWAY = re.compile(r"(?i)AWS_|SSMTUNNELD_|\w+_PROXY$")
"""Variables under which the commands would talk to others, or say other things."""
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_FIXED = "\N{NO-BREAK SPACE}"
"""In place of a space: several of those in a row are drawn as one."""
_CHUNK = bytes(64 * 1024)


@contextmanager
def download(host, port=0):
    """Serve data without an end to whoever connects; yield the port."""
    with socket.create_server((host, port)) as server:

        def serve():
            while True:
                try:
                    connection, _ = server.accept()
                    with connection:
                        while True:
                            connection.sendall(_CHUNK)
                except ConnectionError:
                    continue
                except OSError:
                    return  # the server is closed

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield server.getsockname()[1]
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join()


def play(host="127.0.0.2", port=8080, other=5432):
    """Return what is typed, and the lines that come then, command by command.

    Args:
        host: Where the far side's web server listens.
        port: Its port.
        other: The port of the database, to which nobody connects.
    """
    aliases = {"orders.internal": host, "wiki.internal": host}
    settings = EmulatorSettings(
        pace=Pace.REAL, nodes=NODES, targets=frozenset(NODES), host_aliases=aliases
    )
    with (
        tempfile.TemporaryDirectory() as home,
        EmulatorThread(settings) as emulator,
        download(host, port) as web,
    ):
        kept = {k: v for k, v in os.environ.items() if not _LEADS_AWAY.match(k)}
        places = {"HOME": home, "XDG_CONFIG_HOME": home, "XDG_STATE_HOME": home}
        environ = {**kept, **emulator.environment, **places, "NO_COLOR": "1"}
        listing = typed(["targets"], environ, until=None)
        words = ["open", TARGET, f"orders.internal:{other}", f"wiki.internal:{web}"]
        opened = typed(words, environ, until=r"down [1-9]\S* KiB/s  1 connection ")
    return [("ssmtunneld targets", listing), (f"ssmtunneld {' '.join(words)}", opened)]


def typed(words, environ, until):
    """Return the lines that a command shows at its end, or when it shows ``until``."""
    argv = ["-m", "ssmtunneld", *words]
    terminal = Terminal(*argv, columns=COLUMNS, env=environ)
    connection = None
    try:
        if until is not None:
            terminal.wait_for(r"(?s)(: ready\r\n.*){2}up ")
            address = re.search(r"wiki-\d+: listening on (\S+):(\d+) ", terminal.raw)
            connection = socket.create_connection((address[1], int(address[2])))
            reader = threading.Thread(target=_read_all, args=(connection,))
            reader.start()
            terminal.wait_for(until)
            shown = terminal.raw
            terminal.type("\x03")
            terminal.close()
            reader.join()
        else:
            terminal.close()
            shown = terminal.raw
    finally:
        if connection is not None:
            connection.close()
    return screen(shown)


def _read_all(connection):
    try:
        while connection.recv(1 << 20):
            pass
    except OSError:
        pass  # reset, because the tunnels have ended


def screen(raw):
    """Return the lines on a terminal's screen once it has shown ``raw``."""
    lines = []
    for line in raw.split("\n"):
        # What stands before the last return of the cursor has been overwritten.
        last = line.rstrip("\r").rpartition("\r")[2]
        lines.append(_ESCAPES.sub("", last).rstrip())
    while lines and not lines[-1]:
        lines.pop()
    return lines


def draw(acts):
    """Return a window with commands and their output, as one SVG document."""
    rows = []
    for number, (command, lines) in enumerate(acts):
        if number:
            rows.append("")
        rows.append(_span("$ ", _GREEN) + _span(command, "#ffffff"))
        rows += [_span(line, _colour(line)) for line in lines]
    width = round(2 * _MARGIN + COLUMNS * _ADVANCE)
    height = _BAR + 2 * _MARGIN + _LINE * len(rows)
    texts = "".join(
        f'<text x="{_MARGIN}" y="{_BAR + _MARGIN + _LINE * i + 14}">{row}</text>\n'
        for i, row in enumerate(rows)
        if row
    )
    lights = "".join(
        f'<circle cx="{20 + 18 * i}" cy="16" r="5" fill="{colour}"/>'
        for i, colour in enumerate(("#e06c60", "#e2b95c", "#8fc27a"))
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'width="{width}" height="{height}" role="img" '
        'aria-label="ssmtunneld targets, and ssmtunneld open with two destinations">\n'
        f'<rect width="{width}" height="{height}" rx="8" fill="{_GROUND}"/>{lights}\n'
        '<g font-family="ui-monospace, Menlo, Consolas, monospace" font-size="14" '
        f'fill="{_TEXT}">\n{texts}</g>\n</svg>\n'
    )


def _span(text, colour):
    # A fixed length keeps columns apart whatever font there is.
    length = round(len(text) * _ADVANCE, 1)
    return (
        f'<tspan fill="{colour}" textLength="{length}" '
        f'lengthAdjust="spacingAndGlyphs">{escape(text.replace(" ", _FIXED))}</tspan>'
        if text
        else ""
    )


def _colour(line):
    if line.endswith(": ready"):
        return _GREEN
    return _DIM if line.startswith(("up ", "ID ")) else _TEXT


def texts_of(svg):
    """Return the lines of a picture, without what differs from run to run."""
    lines = re.findall(r"<text .*?</text>", svg)
    plain = [re.sub(r"<.*?>", "", line) for line in lines]
    # Ports, throughput, and the widths of columns.
    folded = [re.sub(f"{_FIXED}+", " ", line) for line in plain]
    # The last column of targets has room or not, by how long ago each was seen.
    shown = [re.sub(r"( VPC|( -)+)$", "", line) for line in folded]
    return sorted(re.sub(r"[0-9.]+", "0", line) for line in shown)


if __name__ == "__main__":
    PICTURE.write_text(draw(play()), "utf-8")
