"""Five hundred mappings in one file."""

import resource
from collections import deque
from contextlib import contextmanager

from ssmtunneld.daemon import raise_file_limit
from tests.chaos.processes import Service, resident, start_daemon

MAPPINGS = 500
RATE, BURST = 100, 5
IN_FLIGHT = 8
"""Calls that the daemon makes at the same time: by so many, the times at which the
service saw them may be closer together than the times at which they were allowed."""

_DAEMON = f"""
[daemon]
start_rate = {RATE}
start_burst = {BURST}
"""
_MAPPING = """
[tunnels.m{number}]
listen = "127.0.0.1:0"
target = "i-{number:017x}"
port = 9
"""


def test_five_hundred_mappings_become_ready_without_a_rush(tmp_path, record_property):
    text = _DAEMON + "".join(_MAPPING.format(number=n) for n in range(MAPPINGS))
    with Service("--pace", "none") as service:
        # Fewer than they need; a login shell often has 1024.
        with soft_file_limit(900):
            daemon = start_daemon(service, tmp_path, text)
        try:
            daemon.wait_for(r"daemon\.ready", timeout=120)
            memory = resident(daemon)
            sessions, times = service.sessions(), service.start_times()
            assert daemon.stop() == 0, daemon.log()
        finally:
            daemon.kill()
        assert service.active() == set()
    record_property("resident MiB", round(memory / 2**20, 1))
    assert len({s["target"] for s in sessions if s["ready"]}) == MAPPINGS
    assert len(sessions) == MAPPINGS
    assert _most_at_once(times) <= BURST + RATE + IN_FLIGHT


def test_the_daemon_takes_all_the_files_that_it_may_open():
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with soft_file_limit(hard - 1):
        raise_file_limit()
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (hard, hard)


@contextmanager
def soft_file_limit(limit):
    """Let this process, and those that it starts, open only so many files."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def _most_at_once(times):
    """Return the greatest number of ``times`` within any one second."""
    most, window = 0, deque()
    for moment in times:
        window.append(moment)
        while window[0] <= moment - 1.0:
            window.popleft()
        most = max(most, len(window))
    return most
