"""Our block of the hosts file: the right names, and nothing else touched."""

import errno
import os
from pathlib import Path

import pytest

from ssmtunneld.cli.exit_codes import CommandError
from ssmtunneld.cli.hosts_block import (
    BEGIN,
    END,
    block,
    difference,
    entries,
    gives,
    merge,
    read,
    replace,
)
from tests.cli.test_destination import read as config
from tests.integration.world import tunnel

FILE = Path("/etc/hosts")
WANTED = {"db.x": "127.0.1.2", "cache.x": "127.0.1.3"}
OURS = f"{BEGIN}\n127.0.1.2\tdb.x\n127.0.1.3\tcache.x\n{END}\n"


def found(*tables):
    return entries(config(*tables).tunnels)


def test_a_name_gets_the_loopback_address_that_its_tunnel_has_for_itself():
    listen = ["unix:/run/x", "127.0.0.1:5432", "localhost:1", "127.0.1.2:5432"]
    named = tunnel("db", listen=listen, host="DB.x.", port=5432)
    assert found(named) == ({"db.x": "127.0.1.2"}, [])


def test_tunnels_without_a_name_or_an_address_of_their_own_are_left_out():
    assert found(
        tunnel("self", listen="127.0.1.1:22", port=22),
        tunnel("number", listen="127.0.1.2:22", port=22, host="10.0.0.1"),
        tunnel("shared", listen="127.0.0.1:5432", port=5432, host="db.x"),
        tunnel("open", listen="10.1.2.3:1", port=1, host="e.x", allow=["10.0.0.0/8"]),
    ) == ({}, ["shared", "open"])


def test_one_address_may_have_several_names_and_a_name_several_ports():
    both, without = found(
        tunnel("a", listen="127.0.1.2:5432", port=5432, host="db.x"),
        tunnel("b", listen="127.0.1.2:6379", port=6379, host="cache.x"),
        tunnel("c", listen="127.0.1.2:22", port=22, host="db.x"),
    )
    assert (both, without) == ({"db.x": "127.0.1.2", "cache.x": "127.0.1.2"}, [])
    assert block(both)[1:-1] == ["127.0.1.2\tdb.x cache.x"]


def test_a_name_with_two_addresses_is_refused():
    with pytest.raises(CommandError) as caught:
        found(
            tunnel("a", listen="127.0.1.2:5432", port=5432, host="db.x"),
            tunnel("b", listen="127.0.1.3:22", port=22, host="db.x"),
        )
    assert str(caught.value) == "a and b lead to db.x, from 127.0.1.2 and 127.0.1.3"
    assert "the same address, on different ports" in caught.value.advice


@pytest.mark.parametrize("text", ["", "127.0.0.1 localhost\n", "\r\n# odd\t \r\n\n"])
def test_the_block_goes_to_the_end_and_comes_out_again(text):
    merged = merge(text, WANTED, FILE)
    assert merged == text + OURS
    assert merge(merged, WANTED, FILE) == merged
    assert merge(merged, {}, FILE) == text


def test_a_last_line_without_an_end_gets_one():
    assert merge("1.2.3.4 a", WANTED, FILE) == f"1.2.3.4 a\n{OURS}"
    assert merge("1.2.3.4 a", {}, FILE) == "1.2.3.4 a"


def test_a_block_is_replaced_where_it_is():
    before = f"1.1.1.1 a\n{BEGIN}\n127.9.9.9 old\n{END}\n2.2.2.2 b\n"
    assert merge(before, WANTED, FILE) == f"1.1.1.1 a\n{OURS}2.2.2.2 b\n"


@pytest.mark.parametrize("text", [f"{BEGIN}\n", f"{END}\n", f"{END}\n{BEGIN}\n"])
def test_half_a_block_is_left_to_its_owner(text):
    with pytest.raises(CommandError, match="is damaged"):
        merge(text, WANTED, FILE)


def test_a_line_that_says_otherwise_is_named():
    with pytest.raises(CommandError, match=r"gives DB\.x the address 10\.0\.0\.1"):
        merge("10.0.0.1 foo DB.x # db\n", WANTED, FILE)
    merge("127.0.1.2 db.x\n10.0.0.1 foo # db.x\n", WANTED, FILE)


def test_the_difference_is_unified_and_marks_a_missing_line_end():
    text = difference("a\nb", "a\nb\nc\n", FILE)
    assert text.splitlines() == [
        "--- /etc/hosts",
        "+++ /etc/hosts (new)",
        "@@ -1,2 +1,3 @@",
        " a",
        "-b",
        "\\ No newline at end of file",
        "+b",
        "+c",
    ]
    assert difference("a", "a", FILE) == ""


def test_a_file_is_replaced_with_mode_and_bytes_that_are_no_text(tmp_path):
    file, link = tmp_path / "real", tmp_path / "hosts"
    file.write_bytes(b"# caf\xe9\r\n")
    file.chmod(0o640)
    link.symlink_to(file)
    before = file.stat()
    replace(link, merge(read(link), WANTED, link))
    assert file.read_bytes() == b"# caf\xe9\r\n" + OURS.encode()
    after = file.stat()
    assert (after.st_mode, after.st_uid, after.st_gid) == (
        before.st_mode,
        before.st_uid,
        before.st_gid,
    )
    assert after.st_ino != before.st_ino
    assert link.is_symlink()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["hosts", "real"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_another_owner_stays(tmp_path):
    file = tmp_path / "hosts"
    file.touch()
    os.chown(file, 12345, 54321)
    replace(file, "x\n")
    assert (file.stat().st_uid, file.stat().st_gid) == (12345, 54321)


def test_a_mounted_file_is_written_to(tmp_path, monkeypatch):
    file = tmp_path / "hosts"
    file.touch()
    inode = file.stat().st_ino

    def refuse(*_):
        raise OSError(errno.EBUSY, "Device or resource busy")

    monkeypatch.setattr(Path, "replace", refuse)
    replace(file, "x\n")
    assert (file.read_text(), file.stat().st_ino) == ("x\n", inode)
    assert list(tmp_path.iterdir()) == [file]


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(CommandError, match=r"cannot read .*: No such file"):
        read(tmp_path / "none")


def test_what_is_no_regular_file_is_refused_at_once(tmp_path):
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    for path in (fifo, tmp_path, Path(os.devnull)):
        with pytest.raises(CommandError, match=r"not a regular file|directory"):
            read(path)


def test_a_name_has_the_address_of_its_line_unless_another_line_has_it_too():
    text = "127.0.1.2\tOther DB.x. # db.y\n::1 db.z\n127.0.0.1 db.z\n\n# 1.1.1.1 db.x"
    assert gives(text, "db.X", "127.0.1.2")
    assert not gives(text, "db.x", "127.0.0.1")
    assert not gives(text, "db.y", "127.0.1.2")
    assert not gives(text, "db.z", "127.0.0.1")
