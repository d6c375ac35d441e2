"""Links that move much, and how long they wait for those that move little."""

from ssmtunneld.transport.read_scheduler import (
    BUSY_BYTES,
    PRIORITY_TIME,
    WINDOW,
    YIELDING_ANSWER_SIZE,
    YIELDING_SIZE,
    LinkTraffic,
    ReadFairness,
)

START = 100.0


def two_links():
    fairness = ReadFairness()
    return LinkTraffic(fairness), LinkTraffic(fairness)


def download(link, start, seconds, step=0.001):
    """Move as much as a busy link does; return the time of the last message."""
    for count in range(round(seconds / step)):
        link.note_read(BUSY_BYTES // 8, start + count * step)
    return start + seconds


def test_a_busy_link_waits_while_another_moves_little():
    bulk, keys = two_links()
    now = download(bulk, START, 0.2)
    assert not bulk.should_wait(now)
    keys.note_read(300, now)
    assert bulk.should_wait(now)
    assert bulk.should_wait(now + PRIORITY_TIME / 2)
    assert not bulk.should_wait(now + PRIORITY_TIME)


def test_who_moves_little_waits_for_nobody():
    bulk, keys = two_links()
    now = download(bulk, START, 0.2)
    keys.note_read(300, now)
    assert not keys.should_wait(now)


def test_a_lone_download_does_not_wait_for_its_own_beginning():
    bulk, _ = two_links()
    bulk.note_read(300, START)
    now = download(bulk, START, 0.01)
    assert not bulk.should_wait(now)


def test_two_downloads_do_not_wait_for_each_other():
    first, second = two_links()
    now = START
    for _ in range(100):
        now += 0.002
        first.note_read(BUSY_BYTES // 8, now)
        second.note_read(BUSY_BYTES // 8, now)
    assert not first.should_wait(now + PRIORITY_TIME)
    assert not second.should_wait(now + PRIORITY_TIME)


def test_an_agents_full_rate_is_little():
    """Nothing that the real agent sends makes others wait, or has to."""
    first, second = two_links()
    now = START
    for _ in range(700):
        now += 0.0014
        first.note_read(1144, now)
        second.note_read(1144, now)
        assert not first.should_wait(now)
        assert not second.should_wait(now)


def test_a_conversation_without_a_pause_is_little():
    """One of 5,000 turns a second moves more bytes than an agent can."""
    bulk, keys = two_links()
    now = download(bulk, START, 0.2)
    for turn in range(1000):
        now += 0.0002
        keys.note_written(450, now)  # a keystroke, and the echo's acknowledgement
        keys.note_read(450, now)
        if turn % 10 == 0:
            bulk.note_read(BUSY_BYTES // 8, now)
        assert bulk.should_wait(now)
        assert not keys.should_wait(now)


def test_an_upload_sips_less_because_it_reads_answers():
    link, _ = two_links()
    assert link.yielding_size == YIELDING_SIZE
    now = START
    for _ in range(200):
        now += 0.001
        link.note_written(1144, now)
        link.note_read(300, now)
    assert link.yielding_size == YIELDING_ANSWER_SIZE
    download(link, now, 2 * WINDOW)
    assert link.yielding_size == YIELDING_SIZE


def test_a_link_that_was_busy_is_so_no_more_after_a_rest():
    bulk, keys = two_links()
    now = download(bulk, START, 0.2) + 2 * WINDOW
    bulk.note_read(300, now)
    keys.note_read(300, now)
    assert not bulk.should_wait(now)
