"""Lines go out as long as somebody takes them; what is lost is counted, not raised."""

import errno
import io
import os
import pty
import threading
from pathlib import Path

import pytest

from ssmtunneld.observe.log_output import LogOutput


class Disk(io.RawIOBase):
    """A file that takes as many bytes as there is room for."""

    def __init__(self, room=None, failure=errno.ENOSPC):
        self.room = room
        self.failure = failure
        self.taken = b""

    def writable(self):
        return True

    def write(self, data):
        size = len(data) if self.room is None else min(self.room, len(data))
        if not size:
            raise OSError(self.failure, os.strerror(self.failure))
        if self.room is not None:
            self.room -= size
        self.taken += bytes(data[:size])
        return size


class Stalled(Disk):
    """A non-blocking file that is full: a write returns None."""

    def write(self, data):
        return super().write(data) if self.room is None or self.room else None


def outlet_over(raw):
    """Return an outlet over a text stream with a buffer, as standard error is."""
    stream = io.TextIOWrapper(io.BufferedWriter(raw), line_buffering=True)
    return LogOutput(stream, lambda lost: f"lost {lost}")


def say(outlet, *words):
    for word in words:
        assert outlet.write(f"{word}\n") == len(word) + 1
        outlet.flush()


def test_lines_are_written_as_they_come():
    disk = Disk()
    say(outlet_over(disk), "one", "zwölf \udc80")
    assert disk.taken == "one\nzwölf \\udc80\n".encode()


@pytest.mark.parametrize("failure", [errno.EIO, errno.ENOSPC, errno.EPIPE])
def test_what_cannot_be_written_is_lost_and_told_once_afterwards(failure):
    disk = Disk(failure=failure)
    outlet = outlet_over(disk)
    say(outlet, "one")
    disk.room = 0
    say(outlet, "two", "three", "four")
    assert outlet.lost == 3
    disk.room = None
    say(outlet, "five", "six")
    assert disk.taken == b"one\nlost 3\nfive\nsix\n"
    assert outlet.lost == 0


def test_a_line_that_is_torn_does_not_spoil_the_next_one():
    disk = Disk(room=6)
    outlet = outlet_over(disk)
    say(outlet, "one", "twenty", "three")
    disk.room = None
    say(outlet, "four")
    assert disk.taken == b"one\ntw\nlost 2\nfour\n"


def test_a_notice_that_is_torn_comes_again_and_whole():
    disk = Disk(room=4)
    outlet = outlet_over(disk)
    say(outlet, "one", "two")
    disk.room = 3
    say(outlet, "three")
    disk.room = 1  # for the end of what was torn, and no more
    say(outlet, "four")
    disk.room = None
    say(outlet, "five")
    assert disk.taken == b"one\nlos\nlost 3\nfive\n"


def test_room_for_the_notice_alone_loses_the_line():
    disk = Disk(room=0)
    outlet = outlet_over(disk)
    say(outlet, "one")
    disk.room = len("lost 1\n")
    say(outlet, "two")
    assert disk.taken == b"lost 1\n"
    assert outlet.lost == 1


def test_a_stream_that_takes_a_line_in_pieces_gets_all_of_it():
    class Drop(Disk):
        def write(self, data):
            return super().write(data[:2])

    drop = Drop()
    say(outlet_over(drop), "twelve", "one")
    assert drop.taken == b"twelve\none\n"


def test_a_stream_that_would_have_to_be_waited_for_is_not():
    stalled = Stalled(room=0)
    outlet = outlet_over(stalled)
    say(outlet, "one")
    assert outlet.lost == 1
    stalled.room = None
    say(outlet, "two")
    assert stalled.taken == b"lost 1\ntwo\n"


def test_a_stream_without_a_buffer_of_its_own_is_written_directly():
    """As standard error is under ``python -u``."""
    disk = Disk()
    stream = io.TextIOWrapper(disk, write_through=True)
    say(LogOutput(stream, str), "one")
    assert disk.taken == b"one\n"


def test_a_stream_without_a_file_is_written_as_it_is():
    class Fickle(io.StringIO):
        broken = False

        def write(self, text):
            if self.broken:
                raise BrokenPipeError
            return super().write(text)

    stream = Fickle()
    outlet = LogOutput(stream, lambda lost: f"lost {lost}")
    say(outlet, "one")
    stream.broken = True
    say(outlet, "two")
    stream.broken = False
    say(outlet, "three")
    assert stream.getvalue() == "one\nlost 1\nthree\n"


def test_a_terminal_that_was_closed_takes_nothing_and_ends_nothing():
    controller, terminal = pty.openpty()
    with open(terminal, "w", encoding="utf-8") as stream:  # noqa: PTH123 - it is open
        outlet = LogOutput(stream, str)
        say(outlet, "one")
        assert os.read(controller, 100) == b"one\r\n"
        os.close(controller)
        say(outlet, "two", "three")
        assert outlet.lost == 2


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has /dev/full")
def test_a_full_device_takes_nothing_and_leaves_nothing_to_fail_later():
    with open("/dev/full", "w", encoding="utf-8") as stream:  # noqa: PTH123 - as above
        outlet = LogOutput(stream, str)
        say(outlet, "one", "two")
        assert outlet.lost == 2
        stream.flush()


def test_threads_do_not_mix_their_lines_nor_lose_count():
    disk = Disk(room=0)
    outlet = outlet_over(disk)
    lines = [f"{number}" * 50 for number in range(8)]
    threads = [threading.Thread(target=say, args=(outlet, *[x] * 50)) for x in lines]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    disk.room = None
    say(outlet, "end")
    assert disk.taken == b"lost 400\nend\n"


def test_losses_before_it_are_told_like_its_own():
    disk = Disk()
    outlet = outlet_over(disk)
    outlet.lose(3)
    outlet.lose(0)
    say(outlet, "one")
    assert disk.taken == b"lost 3\none\n"


def test_a_child_begins_without_losses_and_with_a_lock_of_its_own():
    disk = Disk()
    outlet = outlet_over(disk)
    outlet.lose(3)
    with outlet._lock:  # as another thread of the parent may have had it
        outlet.renew()
        say(outlet, "one")
    assert disk.taken == b"one\n"


def test_a_stream_that_was_closed_takes_nothing():
    stream = io.StringIO()
    outlet = LogOutput(stream, str)
    assert not outlet.is_file
    stream.close()
    say(outlet, "one")
    assert outlet.lost == 1


def test_of_lines_that_come_together_only_those_count_that_are_not_whole():
    disk = Disk(room=len("one\ntw"))
    outlet = outlet_over(disk)
    outlet.write("one\ntwo\nthree\n")
    assert (outlet.lost, outlet.lost_ever) == (2, 2)
    outlet.write("four\nfive\n")
    assert outlet.lost == 4
    disk.room = None
    outlet.write("six\n")
    assert disk.taken == b"one\ntw\nlost 4\nsix\n"
    assert (outlet.lost, outlet.lost_ever) == (0, 4)
