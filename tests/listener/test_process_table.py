import socket
import sys
from ipaddress import ip_address

import pytest

from ssmtunneld.listener.process_table import (
    LISTENING,
    TABLES,
    find_unix,
    read_table,
    spell,
)

# From a little-endian machine.
TCP = """\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  \
timeout inode
   0: 0100007F:1538 00000000:0000 0A 00000000:00000000 00:00000000 00000000   107  \
      0 26459 1 000000002d381707 100 0 0 10 0
   1: 0100007F:D820 0100007F:1538 01 00000000:00000000 00:00000000 00000000  1000  \
      0 26460 2 00000000406935c2 20 0 0 10 -1
   2: cut short
"""
UNIX = """\
Num       RefCount Protocol Flags    Type St Inode Path
0000000000000000: 00000002 00000000 00010000 0001 01 18001 /run/app.sock
0000000000000000: 00000003 00000000 00000000 0001 03 18002
0000000000000000: 00000002 00000000 00010000 0001 01 18003 /run/with a space.sock
0000000000000000: 00000002 00000000 00010000 0001 01 18004 @abstract
"""


def test_rows_are_read_and_broken_ones_left_out(tmp_path):
    table = tmp_path / "tcp"
    table.write_text(TCP)
    listening, connected = read_table(table)
    assert (listening.state, listening.uid, listening.inode) == (LISTENING, 107, 26459)
    assert connected.remote == listening.local


def test_a_missing_table_is_empty(tmp_path):
    assert list(read_table(tmp_path / "tcp")) == []


@pytest.mark.skipif(sys.byteorder != "little", reason="the examples are little-endian")
@pytest.mark.parametrize(
    ("host", "spelling"),
    [
        ("127.0.0.1", ("0100007F:1538", "0000000000000000FFFF00000100007F:1538")),
        ("::1", ("", "00000000000000000000000001000000:1538")),
        ("0.0.0.0", ("00000000:1538", "0000000000000000FFFF000000000000:1538")),
    ],
)
def test_addresses_are_spelled_as_the_kernel_spells_them(host, spelling):
    assert spell(ip_address(host), 5432) == spelling


@pytest.mark.parametrize(
    ("host", "family"), [("127.0.0.1", socket.AF_INET), ("::1", socket.AF_INET6)]
)
def test_a_listening_socket_of_ours_is_in_the_kernels_table(host, family):
    with socket.create_server((host, 0), family=family) as listening:
        spellings = spell(ip_address(host), listening.getsockname()[1])
        table = TABLES[1 if family == socket.AF_INET6 else 0]
        own = spellings[1 if family == socket.AF_INET6 else 0]
        [row] = [row for row in read_table(table) if row.local == own]
    assert row.state == LISTENING


@pytest.mark.parametrize(
    ("path", "inodes"),
    [
        ("/run/app.sock", [18001]),
        ("/run/with a space.sock", [18003]),
        ("/run/other.sock", []),
    ],
)
def test_unix_sockets_are_found_by_path(tmp_path, path, inodes):
    table = tmp_path / "unix"
    table.write_text(UNIX)
    assert list(find_unix(path, table)) == inodes


@pytest.mark.parametrize(
    "name", ["@x\n1 2 3 4 5 6 seven /run/app.sock", "@x\x85y", "@\x1cz", "@x\ry"]
)
def test_a_name_that_looks_like_further_lines_breaks_nothing(tmp_path, name):
    table = tmp_path / "unix"
    forged = f"0000000000000000: 00000002 00000000 00010000 0001 01 18000 {name}\n"
    table.write_text(UNIX.replace("\n", f"\n{forged}", 1), newline="")
    assert list(find_unix("/run/app.sock", table)) == [18001]
