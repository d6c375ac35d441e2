"""Local addresses: asked of the daemon, or tried where none runs."""

import asyncio
import socket

import pytest

from ssmtunneld.cli import local_addresses
from ssmtunneld.cli.local_addresses import look_at_addresses
from ssmtunneld.config.load import load_config
from tests.cli.household import Household, document, serving, tunnel_document
from tests.integration.world import tunnel


@pytest.fixture
def look(home):
    """Return what looks at tunnel ``db``, beside a daemon with these tunnels."""
    path = home / "config.toml"

    def run(*tunnels, listen="127.0.0.1:0", **status):
        path.write_text(tunnel("db", listen=listen, port=1))
        config = load_config(path, {})
        if not tunnels:
            (found,) = asyncio.run(look_at_addresses(config, config.tunnels)).values()
            return found
        status["config"] = str(path.resolve())
        with serving(Household(document(*tunnels, **status)), path):
            (found,) = asyncio.run(look_at_addresses(config, config.tunnels)).values()
            return found

    return run


def db(state="ready", reason="", advice="", **facts):
    return tunnel_document(state=state, reason=reason, advice=advice, **facts)


@pytest.mark.parametrize(
    ("entry", "verdict", "text", "cure"),
    [
        (db(), "ok", "127.0.0.1:5432, by the running daemon (pid 7)", ""),
        (db("unbound", "taken", "stop it"), "fail", "taken", "stop it"),
        (
            db("unbound", listen=[]),
            "ok",
            "nothing yet, by the running daemon (pid 7)",
            "",
        ),
        (
            db("paused", "paused by an operator", "run: ssmtunneld resume db"),
            "warn",
            "nobody can connect: paused by an operator",
            "run: ssmtunneld resume db",
        ),
        (db("disabled"), "skip", "the running daemon (pid 7) has it disabled", ""),
    ],
)
def test_the_daemon_is_asked_whether_it_listens(look, entry, verdict, text, cure):
    found = look(entry)
    assert (found.hop, found.verdict) == ("listen", verdict)
    assert (found.text, found.cure) == (text, cure)


def test_a_tunnel_that_the_daemon_does_not_know_is_a_warning(look):
    found = look(tunnel_document("web"))
    assert found.told == (
        "listen: the running daemon (pid 7) does not run it; run: ssmtunneld reload"
    )
    found = look(tunnel_document("web"), groups=["x"])
    assert found.told == (
        "listen: the running daemon (pid 7) does not run it, only group x; "
        "end it, and start it without --group"
    )


def test_a_daemon_that_cannot_be_asked_holds_its_addresses(look, monkeypatch):
    monkeypatch.setattr(local_addresses, "holders", lambda _: [9])
    with socket.create_server(("127.0.0.1", 0)) as holder:
        found = look(listen=f"127.0.0.1:{holder.getsockname()[1]}")
    assert (found.verdict, "(pid 9)" in found.text) == ("skip", True)


def test_without_a_daemon_it_is_tried_to_listen(look):
    with socket.create_server(("127.0.0.1", 0)) as holder:
        address = f"127.0.0.1:{holder.getsockname()[1]}"
        found = look(listen=address)
        assert (found.verdict, f"cannot listen on {address}" in found.text) == (
            "fail",
            True,
        )
        assert found.cure
    found = look(listen=address)
    assert (found.verdict, found.text) == (
        "ok",
        f"{address} can be used; no daemon runs",
    )


def test_a_path_that_is_no_socket_is_no_address(look, tmp_path):
    (tmp_path / "file").touch()
    assert look(listen=f"unix:{tmp_path}/file").verdict == "fail"
