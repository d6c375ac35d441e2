"""The duty to stop a target, among the processes of connections that have ended."""

import os

import pytest

from ssmtunneld.ssh.settings import settings_for
from ssmtunneld.ssh.stop_duty import StopDuty, duty_name

NOON = 1_790_000_000.0
TARGET = "i-0123456789abcdef0"


class Clocks:
    """Two clocks: seconds since a start, and Unix nanoseconds."""

    def __init__(self):
        self.passed = 100.0
        self.noon = NOON

    def seconds(self):
        return self.passed

    def unix_ns(self):
        return int((self.noon + self.passed) * 1e9)


@pytest.fixture
def clocks():
    return Clocks()


@pytest.fixture
def duty(tmp_path, clocks):
    def make():
        path = tmp_path / "duties" / "0123"
        return StopDuty(path, clocks.seconds, clocks.unix_ns)

    return make


def test_one_has_it_and_is_told_when_others_have_used_the_target(duty, clocks):
    one, two, three = duty(), duty(), duty()
    assert not one.leave_to_holder()
    assert not one.leave_to_holder()  # it stays its own
    one.last_use()
    for other in (two, three):
        clocks.passed += 50
        assert other.leave_to_holder()
        told = clocks.passed
        clocks.passed += 20
        assert one.last_use() == pytest.approx(told, abs=0.001)
    assert two.last_use() == float("-inf")
    assert not one.release()


def test_who_comes_after_it_was_given_up_has_it(duty, tmp_path):
    one, two = duty(), duty()
    assert not one.leave_to_holder()
    assert two.leave_to_holder()
    one.release()
    assert not list((tmp_path / "duties").iterdir())
    assert not two.leave_to_holder()
    assert one.leave_to_holder()
    assert not one.release()


def test_who_gives_it_up_hears_of_what_was_told_too_late_to_be_seen(duty, clocks):
    one, two = duty(), duty()
    assert not one.leave_to_holder()
    one.last_use()
    clocks.passed += 30
    assert two.leave_to_holder()
    assert one.release()
    assert one.last_use() == pytest.approx(clocks.passed, abs=0.001)
    assert not one.leave_to_holder()


def test_one_that_begins_while_another_is_told_is_told_too(duty, clocks, monkeypatch):
    one, two, three = duty(), duty(), duty()
    assert not one.leave_to_holder()
    tell, news = os.utime, []

    def change_holders(*args, **kwargs):
        # The one that is about to be told has looked for that already.
        monkeypatch.setattr(os, "utime", tell)
        news.append(one.release())
        assert not two.leave_to_holder()
        two.last_use()
        tell(*args, **kwargs)

    one.last_use()
    clocks.passed += 30
    monkeypatch.setattr(os, "utime", change_holders)
    clocks.passed += 30
    assert three.leave_to_holder()
    assert news == [False]
    assert two.release()


def test_one_that_was_killed_is_succeeded(duty, clocks):
    dead, one = duty(), duty()
    assert not dead.leave_to_holder()
    os.close(dead._handle)
    assert not one.leave_to_holder()
    assert duty().leave_to_holder()
    assert one.release()


def test_a_clock_that_is_set_back_makes_no_use_of_the_future(duty, clocks):
    one, two = duty(), duty()
    assert not one.leave_to_holder()
    assert two.leave_to_holder()
    clocks.noon -= 86_400
    assert one.last_use() == clocks.passed
    clocks.passed += 10
    assert one.last_use() == clocks.passed - 10
    one.release()


def test_without_a_place_for_the_file_each_has_one_of_its_own(tmp_path, clocks):
    (tmp_path / "file").touch()
    for _ in range(2):
        duty = StopDuty(tmp_path / "file" / "0123", clocks.seconds, clocks.unix_ns)
        assert not duty.leave_to_holder()
        assert duty.last_use() == float("-inf")
        assert not duty.release()


def test_only_its_owner_can_read_the_file(duty, tmp_path):
    one = duty()
    one.leave_to_holder()
    (file,) = (tmp_path / "duties").iterdir()
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.parent.stat().st_mode & 0o777 == 0o700
    one.release()


def test_a_file_that_another_one_has_put_there_is_not_removed(duty, tmp_path):
    one = duty()
    one.leave_to_holder()
    (file,) = (tmp_path / "duties").iterdir()
    file.unlink()
    two = duty()
    assert not two.leave_to_holder()
    one.release()
    assert duty().leave_to_holder()
    two.release()


def name_of(environ=None, **given):
    settings = settings_for(given.pop("target", TARGET), 22, given, None, {})
    return duty_name(settings, environ or {})


def test_one_name_is_for_all_that_can_stop_the_same_target_in_the_same_way():
    mine = name_of()
    assert name_of({"HOME": "/home/me", "AWS_SECRET_ACCESS_KEY": "x"}) == mine
    others = {
        name_of(target="i-0123456789abcdef1"),
        name_of(profile="other"),
        name_of(region="eu-west-1"),
        name_of({"AWS_PROFILE": "other"}),
        name_of({"AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE"}),
        name_of({"AWS_REGION": "eu-west-1"}),
    }
    assert len(others) == 6
    assert mine not in others


def test_another_time_to_stop_it_is_another_duty():
    settings = settings_for(TARGET, 22, {}, None, {})
    longer = settings.model_copy(update={"stop_target_after": 3600.0})
    assert duty_name(settings, {}) != duty_name(longer, {})
