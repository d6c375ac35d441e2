"""A key for each login: private, shared by those of the same moment, and then gone."""

import os
import shutil
import stat
import threading
import time

import pytest

from ssmtunneld.ssh.keys import (
    FORGOTTEN,
    KeyUnavailable,
    Lease,
    _wall_clock,
    folder_name,
)

NAME = "me@i-0123456789abcdef0"
PATIENCE = 60
ASIDE = 20.0
"""Seconds that are enough for a test to see what lies aside."""

pytestmark = pytest.mark.skipif(
    shutil.which("ssh-keygen") is None, reason="ssh-keygen is not installed"
)


@pytest.fixture
def root(tmp_path):
    return tmp_path / "state" / "ssh"


@pytest.fixture
def take(root):
    """Take keys; what a test does not release is released at its end."""
    taken = []

    def lease(name=NAME, **options):
        taken.append(Lease(root, name, **{"aside": ASIDE, **options}))
        return taken[-1]

    yield lease
    for one in taken:
        one.release()


def private(root, name=NAME):
    return (root / name / "key").read_bytes()


def hidden(root):
    return sorted(path.name for path in root.glob(".*"))


def modes(*paths):
    return [stat.S_IMODE(path.stat().st_mode) for path in paths]


def test_a_key_is_private_and_known_by_its_public_part(root, take):
    lease = take()
    assert modes(root.parent, root, root / NAME) == [0o700] * 3
    assert modes(root / NAME / "key") == [0o600]
    public = (root / NAME / "key.pub").read_text()
    assert public.startswith("ssh-ed25519 ")
    assert lease.public_key == " ".join(public.split()[:2])
    assert b"PRIVATE KEY" in private(root)


def test_a_folder_is_called_as_ssh_would_call_it():
    assert folder_name("me", "i-0123") == "me@i-0123"
    assert folder_name("me", "tag:a b/../c=d") == "me@tag:a-b-..-c=d"


def test_those_of_one_moment_share_a_key_and_the_last_one_gives_it_up(root, take):
    one, two = take(), take()
    assert one.public_key == two.public_key
    one.release()
    one.release()
    assert (root / NAME / "key").exists()
    two.release()
    assert not (root / NAME).exists()


def test_different_logins_have_different_keys(root, take):
    assert take().public_key != take("you@i-0123456789abcdef0").public_key


def test_a_key_that_was_given_up_is_deleted(root, take):
    take(aside=0.0).release()
    deadline = time.perf_counter() + PATIENCE
    while any(root.iterdir()):
        assert time.perf_counter() < deadline, list(root.iterdir())


def test_whoever_may_have_seen_a_key_gets_it_back(root, take):
    one = take()
    before = private(root)
    one.release()
    two = take()
    assert private(root) == before
    assert two.public_key == one.public_key
    assert hidden(root) == []


def test_a_key_that_is_being_deleted_is_not_taken_back(root, take):
    one = take()
    one.release()
    (aside,) = root.glob(".*")
    aside.rename(f"{aside}.gone")
    assert take().public_key != one.public_key


def test_what_others_left_behind_is_deleted_by_the_next_one(root, take):
    take("you@i-1").release()
    (root / ".new.interrupted").mkdir()
    take()
    assert len(hidden(root)) == 2
    now = (root / ".new.interrupted").stat().st_mtime
    take(now=lambda: now + FORGOTTEN + 1)
    assert hidden(root) == []


def test_a_key_of_somebody_who_was_killed_is_used_and_then_deleted(root, take):
    one = take()
    os.close(one._folder)  # what the kernel does
    one._folder = None
    two = take()
    assert two.public_key == one.public_key
    two.release()
    assert not (root / NAME).exists()


def test_half_a_key_is_none(root, take):
    one = take()
    (root / NAME / "key.pub").unlink()
    two = take()
    assert two.public_key != one.public_key
    one.release()
    assert two.public_key == take().public_key


def test_only_one_of_many_pushes_a_key(take):
    pushed = []
    entered = threading.Barrier(5)

    def push(lease):
        entered.wait(PATIENCE)
        with lease.pushing(20) as due:
            if due:
                pushed.append(lease)

    threads = [threading.Thread(target=push, args=(take(),)) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert len(pushed) == 1


def test_a_push_counts_for_a_while_and_one_that_failed_does_not(take):
    lease = take()
    assert not lease.is_fresh(20)
    with pytest.raises(ZeroDivisionError), lease.pushing(20):
        raise ZeroDivisionError
    assert not lease.is_fresh(20)
    with lease.pushing(20) as due:
        assert due
    assert lease.is_fresh(20)
    with lease.pushing(20) as due:
        assert not due
    later = take(now=lambda: _wall_clock() + 21)
    assert not later.is_fresh(20)
    clock_set_back = take(now=lambda: _wall_clock() - 21)
    assert not clock_set_back.is_fresh(20)


def test_a_key_that_is_gone_is_not_fresh(take):
    lease = take()
    lease.release()
    assert not lease.is_fresh(20)


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(KeyUnavailable, match=r"no key in .*/file/ssh: File exists"):
        Lease(tmp_path / "file" / "ssh", NAME)


def test_without_ssh_keygen_there_is_no_key(root, monkeypatch):
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(KeyUnavailable, match="no key in") as caught:
        Lease(root, NAME)
    assert "ssh-keygen" in caught.value.advice


def test_what_ssh_keygen_complains_about_is_told(root, monkeypatch, tmp_path):
    script = tmp_path / "ssh-keygen"
    script.write_text("#!/bin/sh\necho out of luck >&2\nexit 1\n")
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(KeyUnavailable, match="ssh-keygen: out of luck"):
        Lease(root, NAME)
