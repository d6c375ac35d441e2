"""Finding a daemon and asking it: one, none, several, an old one, a dead one."""

import os
import socket
import sys
import threading
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from aiohttp import web

from ssmtunneld.cli.daemon_client import (
    Daemon,
    NotRunning,
    OthersDaemon,
    find,
    groups_in,
    request,
    select,
    select_enabled,
)
from ssmtunneld.cli.exit_codes import EXIT_NOT_RUNNING, CommandError
from ssmtunneld.cli.service.manager import ServicePaths
from ssmtunneld.cli.service.systemctl import Systemd
from ssmtunneld.daemon.instance_lock import claim_instance, control_socket
from ssmtunneld.serve.control_protocol import PROTOCOL
from ssmtunneld.serve.control_socket import serve_control
from ssmtunneld.version import __version__
from tests.cli.household import (
    Busy,
    Household,
    Serving,
    document,
    off,
    older_daemon,
    serving,
    serving_app,
    tunnel_document,
)


@contextmanager
def answering(path, answer, *, wait=None):
    """Listen at ``path``; once asked, send the bytes ``answer`` and hang up."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()

        def serve():
            connection, _ = listener.accept()
            with connection, suppress(BrokenPipeError):
                connection.recv(65536)
                if wait is not None:
                    wait.wait(30)
                connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        yield path
        thread.join(30)


def test_the_only_daemon_is_found_without_being_named(operator):
    daemon = find(None)
    assert daemon.document == operator.status()
    assert daemon.protocol == PROTOCOL


def test_a_daemon_is_found_by_its_file(home):
    first, second = home / "a.toml", home / "b.toml"
    with (
        serving(Household(document(config=str(first))), first),
        serving(Household(document(config=str(second))), second),
    ):
        assert find(second).document["config"] == str(second)
        with pytest.raises(NotRunning, match=r"no daemon runs for .*c\.toml") as caught:
            find(home / "c.toml")
    assert caught.value.code == 3
    assert caught.value.advice == f"start one: ssmtunneld run -c {home / 'c.toml'}"


def test_the_variable_stands_for_a_file_that_is_not_named(home, monkeypatch):
    with (
        serving(Household(document(config="first")), home / "a.toml"),
        serving(Household(document(config="second")), home / "b.toml"),
    ):
        monkeypatch.setenv("SSMTUNNELD_CONFIG", str(home / "b.toml"))
        assert find(None).document["config"] == "second"


def test_of_several_daemons_one_must_be_named(home):
    with (
        serving(Household(document(config="/a.toml")), home / "a.toml"),
        serving(Household(document(config="/b.toml")), home / "b.toml"),
        pytest.raises(CommandError, match="several daemons run") as caught,
    ):
        find(None)
    assert caught.value.code == 2
    assert "/a.toml" in caught.value.advice
    assert "/b.toml" in caught.value.advice


def test_a_system_service_is_found_with_and_without_its_file(home):
    source = home / "system.toml"
    path = home / "system" / "ssmtunneld-prod" / "x.sock"
    path.parent.mkdir(parents=True)
    operator = Household(document(config=str(source)))
    with Serving(lambda: serve_control(path, operator)):
        assert find(None).path == path
        assert find(source).path == path
        with pytest.raises(NotRunning):
            find(home / "another.toml")


def test_without_a_daemon_there_is_nothing_to_find(home):
    with pytest.raises(NotRunning, match=r"^no daemon runs$") as caught:
        find(None)
    assert caught.value.advice == "start one: ssmtunneld run"


def test_an_installed_service_that_does_not_run_is_started_as_a_service(home):
    source = home / "c.toml"
    manager = Systemd(ServicePaths.here(), system=False)
    manager.path.parent.mkdir(parents=True)
    manager.path.write_text(manager.text(["/opt/bin/ssmtunneld"], source))
    for named, advice in (
        (None, "start the service: systemctl --user start ssmtunneld"),
        (source, "start the service: systemctl --user start ssmtunneld"),
        (home / "d.toml", f"start one: ssmtunneld run -c {home / 'd.toml'}"),
    ):
        with pytest.raises(NotRunning) as caught:
            find(named)
        assert caught.value.advice == advice


def test_what_a_killed_daemon_left_is_no_daemon(home):
    path = control_socket("0" * 12)
    path.parent.mkdir(parents=True)
    with socket.socket(socket.AF_UNIX) as left_behind:
        left_behind.bind(str(path))
    with pytest.raises(NotRunning):
        find(None)


def test_a_daemon_that_is_too_old_is_named_with_what_is_needed(home):
    with serving_app(older_daemon(document(tunnel_document(), program="0.0.9"))):
        daemon = find(None)
        with pytest.raises(CommandError) as caught:
            daemon.ask("POST", "/reload")
        assert daemon.ask("PUT", "/log-level", needs=0) == {"level": "debug"}
    assert str(caught.value) == (
        "the running daemon is 0.0.9 (control protocol 0), "
        f"this command needs {__version__} (control protocol 1)"
    )
    assert (caught.value.advice, caught.value.code) == ("restart it", 1)


def test_a_refusal_carries_the_daemons_advice(operator):
    operator.failure = Busy("a reload is on its way")
    with pytest.raises(CommandError, match="a reload is on its way") as caught:
        find(None).ask("POST", "/tunnels/db/pause")
    assert (caught.value.advice, caught.value.code) == ("wait a moment", 1)


def test_a_refused_file_carries_its_problems_and_is_a_usage_error(operator):
    operator.problems = ["c.toml:1: a", "c.toml:2: b"]
    with pytest.raises(CommandError, match="keeps the previous one") as caught:
        find(None).ask("POST", "/reload")
    assert (caught.value.problems, caught.value.code) == (tuple(operator.problems), 2)


def test_a_defect_of_the_daemon_points_at_its_log(home):
    async def fail(_):
        return web.Response(status=500, text="500: in\ntrouble")

    app = web.Application()
    app.add_routes([web.get("/status", fail)])
    with (
        serving_app(app),
        pytest.raises(CommandError, match="500: in trouble") as caught,
    ):
        find(None)
    assert (caught.value.advice, caught.value.code) == ("see its log", 1)


def test_an_empty_refusal_is_told_by_its_code(home):
    path = home / "x.sock"
    with answering(path, b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n"):
        answer = request(path, "GET", "/status")
    assert answer.document == {"error": "the daemon answered with HTTP 503"}


def test_a_daemon_that_has_gone_meanwhile_does_not_run(home):
    with serving(Household()):
        daemon = find(None)
    with pytest.raises(NotRunning):
        daemon.ask("POST", "/reload")


def test_a_daemon_that_does_not_answer_is_not_mistaken_for_none(home):
    path, over = home / "x.sock", threading.Event()
    with answering(path, b"", wait=over):
        with pytest.raises(CommandError, match=r"no answer .* within 0.01 s") as caught:
            request(path, "GET", "/status", timeout=0.01)
        over.set()
    assert "ssmtunneld status" in caught.value.advice


@pytest.mark.skipif(sys.platform != "linux", reason="others refuse at once")
def test_a_daemon_for_which_many_wait_is_waited_for(home):
    path = home / "x.sock"
    with socket.socket(socket.AF_UNIX) as busy, socket.socket(socket.AF_UNIX) as other:
        busy.bind(str(path))
        busy.listen(0)
        other.connect(str(path))
        with pytest.raises(CommandError, match=r"no answer .* within 0.01 s"):
            request(path, "GET", "/status", timeout=0.01)


@pytest.mark.parametrize("words", [b"", b"no HTTP at all\r\n\r\n"])
def test_a_daemon_that_hangs_up_is_said_to(home, words):
    path = home / "x.sock"
    with (
        answering(path, words),
        pytest.raises(CommandError, match=r"closed the connection: ."),
    ):
        request(path, "GET", "/status")


@pytest.mark.parametrize("body", [b"", b"[]", b"{"])
def test_an_answer_that_is_no_document_is_not_taken_for_one(home, body):
    path = home / "x.sock"
    with (
        answering(path, b"HTTP/1.1 200 OK\r\n\r\n" + body),
        pytest.raises(CommandError, match="answer is not JSON"),
    ):
        request(path, "GET", "/status")


def test_a_protocol_that_is_no_number_is_the_oldest(home):
    head = b"HTTP/1.1 200 OK\r\nSsmtunneld-Protocol: new\r\nContent-Length: 2\r\n\r\n{}"
    path = home / "x.sock"
    with answering(path, head):
        answer = request(path, "GET", "/status")
    assert (answer.protocol, answer.document) == (0, {})


@pytest.mark.skipif(os.geteuid() == 0, reason="root may open everything")
def test_another_users_socket_is_called_so(home):
    with serving(Household()) as path:
        path.chmod(0)
        with pytest.raises(CommandError, match="belongs to another user"):
            find(None)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may open everything")
def test_a_service_of_another_user_hides_none_of_our_own(home):
    service = home / "system" / "ssmtunneld" / "x.sock"
    service.parent.mkdir(parents=True)
    with socket.socket(socket.AF_UNIX) as closed:
        closed.bind(str(service))
        service.chmod(0)
        with pytest.raises(OthersDaemon, match="belongs to another user"):
            find(None)
        with serving(Household()):
            assert find(None).document["pid"] == 7


def test_tunnels_are_selected_in_the_files_order():
    known = document(tunnel_document("a"), tunnel_document("b"), tunnel_document("c"))
    assert [m["name"] for m in select(known, [])] == ["a", "b", "c"]
    assert [m["name"] for m in select(known, ["c", "a", "c"])] == ["a", "c"]


@pytest.mark.parametrize(
    ("names", "advice"),
    [(["orders-db"], "did you mean orders?"), (["x"], "the tunnels are: web, orders")],
)
def test_a_tunnel_that_does_not_exist_is_a_usage_error_that_helps(names, advice):
    with pytest.raises(CommandError, match="no tunnel is called") as caught:
        select(document(tunnel_document("web"), tunnel_document("orders")), names)
    assert (caught.value.advice, caught.value.code) == (advice, 2)
    with pytest.raises(CommandError) as caught:
        select(document(), names)
    assert caught.value.advice == "the tunnels are: none"


def test_a_daemon_is_a_value():
    assert Daemon(Path("x"), 1, {}) == Daemon(Path("x"), 1, {})


def test_a_daemon_that_runs_and_cannot_be_asked_is_told_from_none(home):
    config = home / "c.toml"
    with claim_instance(config):
        for named in (config, None):
            with pytest.raises(CommandError) as caught:
                find(named)
            assert str(caught.value) == (
                f"a daemon runs (pid {os.getpid()}), but it cannot be asked"
            )
            assert "control.failed" in caught.value.advice


def test_where_no_daemon_can_keep_a_socket_one_may_run_all_the_same(home, monkeypatch):
    obstacle = home / "file"
    obstacle.touch()
    monkeypatch.setenv("STATE_DIRECTORY", str(obstacle / "state"))
    with pytest.raises(
        CommandError, match="one might run that cannot be asked"
    ) as caught:
        find(None)
    assert str(obstacle) in str(caught.value)
    assert caught.value.code == EXIT_NOT_RUNNING


def test_tunnels_of_groups_are_selected_beside_those_that_are_named():
    found = document(
        tunnel_document("a", groups=["x"]),
        tunnel_document("b", groups=["x", "y"]),
        tunnel_document("c"),
        off("d", groups=["y", "z"]),
    )

    def names(call, *arguments):
        return [tunnel["name"] for tunnel in call(found, *arguments)]

    assert names(select, (), ("x",)) == ["a", "b"]
    assert names(select, ("c",), ("x", "y")) == ["a", "b", "c", "d"]
    assert names(select, ()) == ["a", "b", "c", "d"]
    assert names(select_enabled, ()) == ["a", "b", "c"]
    assert names(select_enabled, ("c",), ("y",)) == ["b", "c"]
    for arguments, message in (
        ((("d",),), "d is disabled (enabled = false)"),
        (((), ("z",)), "d is disabled (enabled = false)"),
    ):
        with pytest.raises(CommandError) as caught:
            select_enabled(found, *arguments)
        assert (str(caught.value), caught.value.code) == (message, 2)


def test_a_group_that_does_not_exist_is_a_usage_error_that_names_those_that_do():
    found = document(tunnel_document("a", groups=["orders", "all"]))
    with pytest.raises(CommandError) as caught:
        select(found, (), ("all", "order"))
    assert (str(caught.value), caught.value.code) == ("no tunnel is in group order", 2)
    assert caught.value.advice == "did you mean orders? the groups are: all, orders"


def test_an_older_daemon_knows_no_groups():
    older = tunnel_document("a")
    del older["groups"]
    with pytest.raises(CommandError, match="older and has no groups"):
        select(document(older), (), ("x",))
    assert groups_in([older]) == []
