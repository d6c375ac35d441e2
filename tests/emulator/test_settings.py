"""The defaults are those of the real service and agent."""

from datetime import UTC, datetime

from ssmtunneld.emulator.settings import EmulatorSettings, Node, Pace


def test_the_defaults_are_the_measured_ones():
    settings = EmulatorSettings()
    assert settings.host == "127.0.0.1"
    assert settings.pace is Pace.REAL
    assert settings.idle_timeout == 20 * 60
    assert settings.handshake_timeout == 15
    assert settings.agent_buffer == 100_000
    assert not settings.allow_remote


def test_the_clock_is_utc():
    clock = EmulatorSettings().wall_clock()
    assert clock.tzinfo is UTC
    assert abs((datetime.now(tz=UTC) - clock).total_seconds()) < 60


def test_any_target_exists_until_nodes_are_listed():
    one, two, three = "i-00000001", "i-00000002", "i-00000003"
    assert EmulatorSettings().existing is None
    # An instance that is off is not the only one there is.
    assert EmulatorSettings(stopped=frozenset({two})).existing is None
    listed = EmulatorSettings(
        nodes={one: Node()}, stopped=frozenset({two}), offline=frozenset({three})
    )
    assert listed.existing == {one, two, three}
    chosen = EmulatorSettings(nodes={one: Node()}, targets=frozenset({two}))
    assert chosen.existing == {two}


def test_a_secret_does_not_show():
    from ssmtunneld.base.secret import Secret

    assert "canary" not in repr(EmulatorSettings(secret_key=Secret("canary")))
