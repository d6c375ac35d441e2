"""Everything is caught at the boundaries of compartments only (design D18).

Elsewhere the errors that can be raised are named, and what a block has begun is undone
with ``on_error`` or an ``ExitStack``.
"""

import ast
from collections import Counter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "ssmtunneld"

BROAD = {"Exception", "BaseException", "ExceptionGroup", "BaseExceptionGroup"}

BOUNDARIES = Counter(
    {
        "aws/api/boundary.py contained": 1,
        "base/compartment.py Defects.guard": 1,
        "base/compartment.py _catch": 1,
        "cli/top/app.py run": 1,
        "daemon/reload.py Reloader._read": 1,
        "daemon/reload.py Reloader._reload": 1,
        "daemon/tunnels.py Tunnels.status_of": 1,
        "doctor/walk.py _look": 1,
        "listener/server.py Server._accept_some": 1,
        "listener/server.py Server._run": 1,
        "observe/log_queue.py LogQueue._write": 1,
        "observe/logs.py _Contained.__call__": 1,
        "observe/logs.py _Contained._apologize": 1,
        "observe/logs.py _Contained.tell_loss": 1,
        "serve/control_socket.py _explain": 1,
        "serve/status_page.py _screen.screen": 1,
        "sessions/pool.py Pool._live": 1,
        "sessions/start_queue.py StartQueue._waiting": 1,
    }
)
"""Places that record an exception as a defect and let it go no further."""

CARRIERS = Counter(
    {
        "api.py _run": 1,
        "aws/api/dialing.py in_time.run": 1,
        "base/aio.py _catch": 1,
        "base/loop_thread.py LoopThread._live": 1,
        "base/lookups.py _filled": 1,
        "cli/daemon_thread.py DaemonThread._run": 1,
        "cli/diagnosis.py run": 1,
        "listener/sockets.py Listener._on_event": 1,
        "serve/control_socket.py serve_control": 1,
        "sessions/network_watch.py NetworkWatch._on_event": 1,
        "transport/driver.py _contained.call": 1,
    }
)
"""Places that raise the exception again, in the task or thread that waits for it."""


def _places(text, name):
    """Yield where ``text`` catches everything: the file and the function."""
    yield from _below(ast.parse(text), name, ())


def _below(node, name, inside):
    for child in ast.iter_child_nodes(node):
        named = isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        if _is_broad(child):
            yield f"{name} {'.'.join(inside)}"
        yield from _below(child, name, (*inside, child.name) if named else inside)


def _is_broad(node):
    if isinstance(node, ast.ExceptHandler):
        return node.type is None or _names_broad([node.type])
    if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("suppress"):
        return _names_broad(node.args)
    return False


def _names_broad(types):
    named = {n.id for t in types for n in ast.walk(t) if isinstance(n, ast.Name)}
    return not named.isdisjoint(BROAD)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("try: pass\nexcept: pass", ["m.py "]),
        ("try: pass\nexcept OSError: pass", []),
        ("try: pass\nexcept (OSError, Exception): pass", ["m.py "]),
        ("try: pass\nexcept* BaseException: pass", ["m.py "]),
        ("with suppress(Exception): pass", ["m.py "]),
        ("with contextlib.suppress(OSError): pass", []),
        ("class C:\n def f(self):\n  with suppress(Exception): pass", ["m.py C.f"]),
    ],
)
def test_the_search_finds_what_catches_everything(text, found):
    assert list(_places(text, "m.py")) == found


def test_only_boundaries_and_carriers_catch_everything():
    found = Counter(
        place
        for path in sorted(PACKAGE.rglob("*.py"))
        for place in _places(
            path.read_text(encoding="utf-8"), path.relative_to(PACKAGE).as_posix()
        )
    )
    assert found == BOUNDARIES + CARRIERS
