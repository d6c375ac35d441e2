import os
import socket
from collections import deque
from pathlib import Path

import pytest

from ssmtunneld.listener import process_table
from ssmtunneld.listener.process_table import Process, user_name

COMMAND = Path("/proc/self/comm").read_text().strip()
US = f"{COMMAND}, pid {os.getpid()}"


@pytest.fixture(params=[("127.0.0.1", socket.AF_INET), ("::1", socket.AF_INET6)])
def listening(request):
    host, family = request.param
    with socket.create_server((host, 0), family=family) as sock:
        yield sock


def test_the_holder_of_a_port_is_named(listening):
    host, port, *_ = listening.getsockname()
    assert process_table.tcp_holder([host], port) == US


def test_the_holder_of_a_port_everywhere_is_in_the_way_of_each_address():
    with socket.create_server(("0.0.0.0", 0)) as sock:
        assert process_table.tcp_holder(["127.0.0.1"], sock.getsockname()[1]) == US


def test_a_holder_of_one_address_is_in_the_way_of_all(listening):
    port = listening.getsockname()[1]
    everywhere = "::" if listening.family == socket.AF_INET6 else "0.0.0.0"
    assert process_table.tcp_holder([everywhere], port) == US


def test_a_connection_that_left_by_the_port_is_named_too(listening):
    with socket.create_connection(listening.getsockname()[:2]) as client:
        host, port, *_ = client.getsockname()
        assert process_table.tcp_holder([host], port) == US


def test_who_listens_elsewhere_is_not_blamed():
    with socket.create_server(("127.0.0.2", 0)) as sock:
        assert process_table.tcp_holder(["127.0.0.1"], sock.getsockname()[1]) == ""


def test_the_holder_of_a_unix_socket_is_named(tmp_path):
    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(path))
        sock.listen()
        assert process_table.unix_holder(path) == US
    assert process_table.unix_holder(path) == ""


@pytest.mark.parametrize("limit", ["MOST_FILES", "LONGEST_LOOK"])
def test_a_holder_that_is_not_found_within_limits_is_named_by_user(
    limit, listening, monkeypatch
):
    """The table shows every socket; its process may be hidden, or take too long."""
    monkeypatch.setattr(process_table, limit, 0)
    host, port, *_ = listening.getsockname()
    assert (
        process_table.tcp_holder([host], port)
        == f"a process of user {user_name(os.getuid())}"
    )


def test_processes_that_end_meanwhile_are_passed_over(tmp_path, monkeypatch):
    gone, hidden = tmp_path / "1" / "fd", tmp_path / "2" / "fd"
    gone.mkdir(parents=True)
    (gone / "3").symlink_to("socket:[77]")  # and its command can no longer be read
    (gone / "4").touch()
    hidden.parent.mkdir()
    hidden.touch()  # as unreadable as a folder can be made for root
    monkeypatch.setattr(process_table, "_PROC", tmp_path)
    assert process_table._process(77) == ""


def test_processes_are_found_by_all_their_sockets_in_one_look(monkeypatch):
    with socket.socket() as one, socket.socket() as other:
        inodes = {os.fstat(sock.fileno()).st_ino for sock in (one, other)}
        found = process_table.find_processes({*inodes, 2**40})
        assert found == dict.fromkeys(inodes, Process(os.getpid(), COMMAND))
        looks = []
        files = process_table._open_files
        monkeypatch.setattr(
            process_table,
            "_open_files",
            lambda: (looks.append(file) or file for file in files()),
        )
        process_table.find_processes({min(inodes)})
        assert looks[-1] == (os.getpid(), f"socket:[{min(inodes)}]"), "it went on"


def test_who_had_connections_the_last_times_is_looked_at_first(tmp_path, monkeypatch):
    monkeypatch.setattr(process_table, "_recent", deque(maxlen=2))
    monkeypatch.setattr(process_table, "_PROC", tmp_path)
    for pid in (os.getpid(), 1, 9, 12, 15):
        folder = tmp_path / str(pid)
        (folder / "fd").mkdir(parents=True)
        (folder / "comm").write_text(f"p{pid}\n")
        (folder / "fd" / "3").symlink_to(f"socket:[{pid}]")
    for pid in (os.getpid(), 1, 9):  # ours has one for every connection
        assert process_table.find_processes({pid})[pid].pid == pid
    assert process_table._processes() == [9, 1, 15, 12, os.getpid()]
    assert process_table.find_processes({12})[12].program == "p12"
    assert process_table._processes()[:2] == [12, 9]


def test_the_newest_processes_come_first_and_we_last(tmp_path, monkeypatch):
    monkeypatch.setattr(process_table, "_recent", deque())
    for pid in (1, 12, 9, os.getpid()):
        (tmp_path / str(pid)).mkdir()
    (tmp_path / "self").mkdir()
    monkeypatch.setattr(process_table, "_PROC", tmp_path)
    assert process_table._processes() == [12, 9, 1, os.getpid()]


def test_a_programs_name_is_cleaned(tmp_path, monkeypatch):
    monkeypatch.setattr(process_table, "_PROC", tmp_path)
    (tmp_path / "7").mkdir()
    (tmp_path / "7" / "comm").write_bytes(b"\x1b[31mre\nd\xff\n")
    assert process_table.process_of(7) == Process(7, "re d\ufffd")
    (tmp_path / "7" / "comm").write_bytes(b"\n")
    assert process_table.process_of(7).program == "7", "a name that is none"
    assert process_table.process_of(8) is None


def test_without_proc_nothing_is_found(tmp_path, monkeypatch):
    monkeypatch.setattr(process_table, "_PROC", tmp_path / "none")
    assert process_table.find_processes({7}) == {}
