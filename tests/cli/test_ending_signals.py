"""Signals that end a block in order."""

import signal

import pytest

from ssmtunneld.cli.ending_signals import EndingSignals


@pytest.fixture(autouse=True)
def interruptible():
    """SIGINT as a program has it that was started in front."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_the_first_one_ends_the_block_with_the_code_of_shells(number):
    with (
        EndingSignals() as signals,
        pytest.raises(SystemExit) as caught,
        signals.interrupting(),
    ):
        signal.raise_signal(number)
    assert caught.value.code == 128 + number


def test_ctrl_c_is_an_interrupt():
    with (
        EndingSignals() as signals,
        pytest.raises(KeyboardInterrupt),
        signals.interrupting(),
    ):
        signal.raise_signal(signal.SIGINT)


def test_one_that_came_too_early_is_obeyed_as_soon_as_it_may_be():
    begun = []
    with EndingSignals() as signals:
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGINT)
        begun.append("what must not be left half done")
        with pytest.raises(SystemExit) as caught, signals.interrupting():
            begun.append("what must not even begin")
    assert begun == ["what must not be left half done"]
    assert (caught.value.code, signals.came) == (128 + signal.SIGTERM, 2)


def test_what_is_undone_meanwhile_is_not_interrupted_by_others():
    undone = []

    def ended_twice(signals):
        with signals.interrupting():
            try:
                signal.raise_signal(signal.SIGTERM)
            finally:
                signal.raise_signal(signal.SIGINT)
                undone.append(signals.came)

    with EndingSignals() as signals, pytest.raises(SystemExit):
        ended_twice(signals)
    assert undone == [2]


def test_none_ends_what_already_ends():
    with EndingSignals() as signals:
        with signals.interrupting():
            pass
        signal.raise_signal(signal.SIGTERM)
        assert signals.came == 1


def test_what_the_shell_has_ignored_stays_ignored_and_the_rest_is_given_back():
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    before = signal.getsignal(signal.SIGTERM)
    with EndingSignals() as signals:
        signal.raise_signal(signal.SIGINT)
        assert signals.came == 0
        assert signal.getsignal(signal.SIGTERM) is not before
    assert signal.getsignal(signal.SIGTERM) is before
