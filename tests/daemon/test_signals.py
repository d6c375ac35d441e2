"""Signals before, while and after somebody answers them."""

import os
import pty
import signal

import pytest

from ssmtunneld.daemon.signals import NUMBERS, Signals, terminal_is_gone


def handlers():
    return [signal.getsignal(number) for number in NUMBERS]


async def test_what_comes_early_is_answered_later():
    before, answers = handlers(), []
    with Signals() as signals:
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGHUP)
        wanted = {signal.SIGTERM: lambda: answers.append("stop")}
        with signals.answered(wanted):
            assert answers == ["stop"]
        # Nobody answers any more, and nobody dies of it.
        os.kill(os.getpid(), signal.SIGTERM)
        assert answers == ["stop"]
    assert handlers() == before


@pytest.mark.parametrize("number", NUMBERS)
def test_work_that_blocks_is_interrupted_by_any_of_them(number):
    before = handlers()
    with Signals() as signals:
        with pytest.raises(KeyboardInterrupt), signals.interrupting():
            os.kill(os.getpid(), number)
        # It ends whatever would begin, too.
        with pytest.raises(KeyboardInterrupt), signals.interrupting():
            pytest.fail("it began")
        os.kill(os.getpid(), number)
    assert handlers() == before


def test_a_signal_before_work_that_blocks_interrupts_it_at_once():
    with Signals() as signals:
        os.kill(os.getpid(), signal.SIGHUP)
        with pytest.raises(KeyboardInterrupt), signals.interrupting():
            pytest.fail("it began")


def test_a_terminal_that_was_closed_is_gone():
    controller, terminal = pty.openpty()
    assert not terminal_is_gone(terminal)
    os.close(controller)
    assert terminal_is_gone(terminal)
    os.close(terminal)


def test_what_is_no_terminal_cannot_be_gone():
    reading, writing = os.pipe()
    assert not terminal_is_gone(reading)
    os.close(reading)
    os.close(writing)
    assert not terminal_is_gone(reading)
