"""PostgreSQL through one tunnel: questions, twenty clients at once, big copies."""

import re

import pytest

from tests.interop.content import noise, sha256_of
from tests.interop.programs import run
from tests.interop.servers import find

ROWS = 1_000_000
ROW_SIZE = 100


@pytest.fixture(scope="module")
def port(postgresql, tunnel):
    return tunnel(postgresql.port)


@pytest.fixture(scope="module")
def table_file(tmp_path_factory):
    """A file of 100 MB: a million different lines of 99 characters."""
    path = tmp_path_factory.mktemp("copy") / "rows"
    with path.open("wb") as file:
        for seed in range(100):
            digits = noise(ROWS // 100 * ROW_SIZE // 2, seed).hex().encode()
            file.writelines(
                digits[start : start + ROW_SIZE - 1] + b"\n"
                for start in range(0, len(digits), ROW_SIZE)
            )
    assert path.stat().st_size == ROWS * ROW_SIZE
    return path


def test_psql_asks_and_is_answered(postgresql, port):
    answer = postgresql.psql(port, "-At", "-c", "select 6 * 7, repeat('x', 5)")
    assert answer == "42|xxxxx\n"


def test_an_error_of_the_server_reaches_psql(postgresql, port):
    with pytest.raises(AssertionError, match="division by zero"):
        postgresql.psql(port, "-c", "select 1 / 0")


def test_pgbench_runs_twenty_clients_at_once(postgresql, port):
    pgbench, connection = find("pgbench"), postgresql.connection(port)[:-2]
    run(pgbench, *connection, "-i", "-q", "-s", "2", "postgres")
    report = run(
        *(pgbench, *connection, "-c", "20", "-j", "2", "-t", "50", "postgres"),
        timeout=180,
    )
    assert re.search(r"actually processed: 1000/1000\b", report), report
    assert re.search(r"failed transactions: 0\b", report), report


def test_copy_moves_100_mb_each_way_unchanged(postgresql, port, table_file, tmp_path):
    wanted = sha256_of(table_file)
    stored, back = postgresql.folder / "stored", tmp_path / "back"
    postgresql.psql(port, "-c", "create unlogged table lines (line text)")
    postgresql.psql(port, "-c", f"\\copy lines from '{table_file}'")
    # Written by the server itself: what arrived, before anything travels back.
    postgresql.psql(postgresql.port, "-c", f"copy lines to '{stored}'")
    assert sha256_of(stored) == wanted
    stored.unlink()
    postgresql.psql(port, "-c", f"\\copy lines to '{back}'")
    assert sha256_of(back) == wanted
