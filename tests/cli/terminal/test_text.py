"""Numbers and other people's words, for a terminal."""

import pytest

from ssmtunneld.cli.terminal.text import (
    counted,
    duration,
    milliseconds,
    printable,
    size,
    sparkline,
)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (59.9, "59s"), (3600, "1h"), (93784, "1d 2h"), (3661, "1h 1m")],
)
def test_a_duration_has_two_units_at_most(seconds, text):
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (3 << 20, "3.0 MiB"),
        (3 << 40, "3072.0 GiB"),
    ],
)
def test_sizes_are_powers_of_1024(count, text):
    assert size(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, "-"), (0.0007, "0.7 ms"), (0.0423, "42 ms"), (1.5, "1500 ms")],
)
def test_round_trips_are_in_milliseconds(seconds, text):
    assert milliseconds(seconds) == text


def test_one_is_not_many():
    words = [counted(count, "tunnel") for count in (0, 1, 2)]
    assert words == ["0 tunnels", "1 tunnel", "2 tunnels"]


def test_a_plot_is_as_high_as_its_values():
    assert sparkline([0, 1, 50, 99, 100, 1000], 100) == "▁▂▅▇██"
    assert sparkline([0, 1, 100], 100, "latin-1") == "_.#"
    assert sparkline([], 1) == ""


def test_something_is_always_higher_than_nothing():
    assert sparkline([0.001, 0], 1e12) == "▂▁"


def test_what_a_terminal_would_obey_is_shown_instead():
    assert printable("a\nb\t c") == "a b c"
    assert printable("\x1b[2Jgone\x07 naïve") == "\\u001b[2Jgone\\u0007 naïve"
