"""``ssmtunneld hosts`` shows, writes, and says how where it may not."""

import errno
from pathlib import Path

import pytest

from tests.cli.household import call
from tests.integration.world import tunnel

BEFORE = "127.0.0.1\tlocalhost\n"


@pytest.fixture
def hosts(home, capsys):
    """Return a function that runs it: exit code, and lines on both streams."""
    config, file = home / "config.toml", home / "hosts"
    config.write_text(
        tunnel("db", listen="127.0.1.2:5432", host="db.x", port=5432)
        + "\n"
        + tunnel("web", listen=8080, host="web.x", port=80)
    )
    file.write_text(BEFORE)

    def run(*options):
        found = call(capsys, "hosts", "-c", config, "--file", file, *options)
        return found[0], found[1].splitlines(), found[2].splitlines()

    run.file, run.config = file, config
    return run


def test_what_would_change_is_shown_and_nothing_written(hosts):
    code, out, err = hosts()
    assert code == 0
    assert "+127.0.1.2\tdb.x" in out
    assert err[0].startswith("without a loopback address of their own: web; ")
    assert hosts.file.read_text() == BEFORE


def test_writing_twice_changes_nothing_the_second_time(hosts):
    assert hosts("--write")[0] == 0
    written = hosts.file.read_text()
    assert written.startswith(BEFORE)
    assert "127.0.1.2\tdb.x\n" in written
    code, out, err = hosts("--write")
    assert (code, out, err[-1]) == (0, [], f"{hosts.file} is up to date")
    assert hosts.file.read_text() == written


def test_the_block_can_be_taken_out(hosts):
    hosts("--write")
    code, out, _ = hosts("--write", "--remove")
    assert (code, "-127.0.1.2\tdb.x" in out) == (0, True)
    assert hosts.file.read_text() == BEFORE


@pytest.mark.parametrize("options", [["--write"], ["--write", "--remove"]])
def test_without_permission_the_command_for_root_is_given(hosts, monkeypatch, options):
    if "--remove" in options:
        hosts("--write")

    def refuse(*_):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "replace", refuse)
    code, _, err = hosts(*options)
    assert code == 1
    assert f"cannot write {hosts.file}: Permission denied; run: sudo " in err[-1]
    assert f" -P -m ssmtunneld hosts {' '.join(options)} --file {hosts.file}" in err[-1]
    assert ("--config" in err[-1]) == ("--remove" not in options)


def test_another_failure_is_no_matter_of_permission(hosts, monkeypatch):
    def refuse(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "replace", refuse)
    code, _, err = hosts("--write")
    words = f"ssmtunneld: cannot write {hosts.file}: No space left on device"
    assert (code, err[-1]) == (1, words)
    assert hosts.file.read_text() == BEFORE


def test_a_disabled_tunnel_takes_no_name(hosts):
    text = hosts.config.read_text()
    hosts.config.write_text(text.replace("port = 5432", "port = 5432\nenabled = false"))
    code, out, err = hosts()
    assert (code, out) == (0, [])
    assert err[-1] == f"{hosts.file} is up to date"
