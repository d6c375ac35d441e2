"""Redis through one tunnel: fifty connections at once, and one large value."""

import pytest

from tests.interop.content import MEBIBYTE, noise
from tests.interop.programs import run
from tests.interop.servers import find


@pytest.fixture(scope="module")
def port(redis_port, tunnel):
    return tunnel(redis_port)


def test_redis_benchmark_runs_fifty_connections(port, redis_port):
    tests = ("PING_MBULK", "SET", "GET", "INCR", "LPUSH")
    report = run(
        find("redis-benchmark"),
        *("-h", "127.0.0.1", "-p", port, "-c", "50", "-n", "3000", "--csv"),
        *("-t", ",".join(name.lower() for name in tests)),
    )
    finished = [line.split(",")[0].strip('"') for line in report.splitlines()]
    assert finished == ["test", *tests]
    # What was counted is what arrived: INCR is not idempotent, so a repeat would show.
    direct = [find("redis-cli"), "-h", "127.0.0.1", "-p", redis_port]
    assert run(*direct, "get", "counter:__rand_int__") == "3000\n"


def test_a_large_value_comes_back_unchanged(port):
    value = noise(4 * MEBIBYTE, seed=5).hex()
    client = [find("redis-cli"), "-h", "127.0.0.1", "-p", port]
    assert run(*client, "-x", "set", "large", data=value) == "OK\n"
    assert run(*client, "get", "large") == value + "\n"


def test_a_pipeline_is_answered_in_order(port):
    client = [find("redis-cli"), "-h", "127.0.0.1", "-p", port]
    commands = "".join(f"echo number-{n}\n" for n in range(5000))
    answers = run(*client, data=commands)
    assert answers.splitlines() == [f"number-{n}" for n in range(5000)]
