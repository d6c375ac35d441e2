"""``ssmtunneld reload``: what it says, and that a mistake is shown line by line."""

import json

from tests.cli.household import (
    call,
    document,
    older_daemon,
    serving_app,
    tunnel_document,
)


def test_it_says_what_has_changed(operator, capsys):
    code, out, err = call(capsys, "reload")
    assert (code, err) == (0, "")
    assert out.splitlines() == [
        "added: a, b",
        "changed: db",
        "changed in [daemon]: log_level, http_listen; none needs a restart",
        "unchanged: 1 tunnel",
    ]
    assert operator.asked == ["reload"]


def test_what_no_reload_mends_is_said_once(operator, capsys):
    broken = {"state": "needs_login", "reason": "no keys.", "advice": "restart it"}
    names = ("db", "web", "cache")  # the first one was changed
    operator.documents = [document(*(tunnel_document(n, **broken) for n in names))]
    code, _, err = call(capsys, "reload")
    assert code == 0
    assert err == (
        "ssmtunneld: web, cache still without credentials: no keys; restart it\n"
    )


def test_scripts_get_a_document(operator, capsys):
    code, out, _ = call(capsys, "reload", "--json")
    assert code == 0
    assert json.loads(out) == {
        "added": ["a", "b"],
        "removed": [],
        "changed": ["db"],
        "unchanged": 1,
        "daemon": ["log_level", "http_listen"],
    }


def test_a_file_with_mistakes_is_refused_with_2_and_all_of_them(operator, capsys):
    operator.problems = ["c.toml:1: x: no", "c.toml:2: y: never"]
    code, out, err = call(capsys, "reload")
    assert (code, out) == (2, "")
    assert err.splitlines() == [
        "ssmtunneld: c.toml:1: x: no",
        "ssmtunneld: c.toml:2: y: never",
        "ssmtunneld: the configuration is invalid; the daemon keeps the previous one; "
        "correct the file and reload again",
    ]


def test_an_older_daemon_is_to_be_restarted(home, capsys):
    with serving_app(older_daemon(document(program="0.0.9"))):
        code, _, err = call(capsys, "reload")
    assert code == 1
    assert "the running daemon is 0.0.9" in err
    assert err.endswith("; restart it\n")


def test_without_a_daemon_it_ends_with_3(home, capsys):
    assert call(capsys, "reload")[0] == 3
