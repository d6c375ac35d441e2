"""Five hundred tunnels in one file."""

import resource
from contextlib import contextmanager

from ssmtunneld.daemon.process import raise_file_limit
from tests.chaos.processes import Service, resident, start_daemon

SLACK = 5
TUNNELS = 500
RATE, BURST = 100, 8

_DAEMON = f"""
[daemon]
start_rate = {RATE}
start_burst = {BURST}
"""
_TUNNEL = """
[tunnels.m{number}]
listen = "127.0.0.1:0"
target = "i-{number:017x}"
port = 9
"""


def test_five_hundred_tunnels_become_ready_without_a_rush(tmp_path, record_property):
    text = _DAEMON + "".join(_TUNNEL.format(number=n) for n in range(TUNNELS))
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
    assert len({s["target"] for s in sessions if s["ready"]}) == TUNNELS
    # One call for each session: none was repeated, so all of them are seen here.
    assert len(sessions) == len(times)
    # Where the machine is busy, one or two may be lost to a timeout and replaced.
    assert TUNNELS <= len(times) <= TUNNELS + SLACK
    record_property("most above the rate", round(_excess(times), 2))
    assert _excess(times) <= BURST + 1e-6


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


def _excess(times):
    """Return how many calls any window of time had above the rate, at most."""
    return max(
        last - first + 1 - RATE * (times[last] - times[first])
        for first in range(len(times))
        for last in range(first, len(times))
    )
