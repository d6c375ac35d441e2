"""The consequence of a changed setting."""

import pytest

from ssmtunneld.config import DaemonSettings, TunnelSettings, parse_config
from ssmtunneld.config.metadata import Reload, reload_of
from ssmtunneld.config.model import TunnelDefaults
from ssmtunneld.config.reload import Changes, changed_keys, needs_sessions
from tests.integration.world import tunnel


def tunnels(*tables):
    return parse_config("\n".join(tables), "test.toml", {}).tunnels


def test_a_setting_that_nobody_has_declared_needs_new_sessions(monkeypatch):
    (before,) = tunnels(tunnel("x", port=1))
    (after,) = tunnels(tunnel("x", port=1, linger="1s"))
    assert not needs_sessions(before, after)
    field = TunnelSettings.model_fields["linger"]
    for model in (TunnelSettings, TunnelDefaults):
        monkeypatch.setattr(model.model_fields["linger"], "metadata", [])
    assert field.metadata == []
    assert needs_sessions(before, after)


@pytest.mark.parametrize(
    ("setting", "value", "needed"),
    [
        ("port", 2, True),
        ("keep_alive", False, True),
        ("ping_interval", "1s", True),
        ("linger", "1s", False),
        ("db_user", "me", False),
        ("warm", 3, False),
        ("listen", "127.0.0.1:1", False),
    ],
)
def test_sessions_are_replaced_only_for_what_decides_about_them(setting, value, needed):
    (before,) = tunnels(tunnel("x", port=1))
    (after,) = tunnels(tunnel("x", **{"port": 1, setting: value}))
    assert needs_sessions(before, after) is needed
    assert not needs_sessions(before, before)


def test_changes_are_told_in_the_order_of_the_file():
    before = tunnels(*[tunnel(name, port=1) for name in ("a", "b", "c", "d")])
    after = tunnels(
        tunnel("z", port=1),
        tunnel("d", port=2),
        tunnel("c", port=1),
        tunnel("a", port=3),
    )
    changes = Changes.between(before, after)
    assert changes == Changes(
        added=("z",), removed=("b",), changed=("d", "a"), unchanged=1
    )
    assert changes.as_document() == {
        "added": ["z"],
        "removed": ["b"],
        "changed": ["d", "a"],
        "unchanged": 1,
        "daemon": [],
    }


def test_the_keys_of_daemon_that_changed_are_told_and_none_needs_a_restart():
    before = DaemonSettings(log_level="debug")
    after = DaemonSettings(log_level="info", drain_timeout="1s")
    assert changed_keys(before, after) == ("log_level", "drain_timeout")
    assert changed_keys(before, before) == ()
    # `ssmtunneld reload` says so.
    effects = {reload_of(DaemonSettings, key) for key in DaemonSettings.model_fields}
    assert effects == {Reload.LIVE, Reload.LISTENERS}
