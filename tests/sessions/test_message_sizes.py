"""Knowledge of message sizes: claims, results, doubts, and kept records."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssmtunneld.sessions.message_sizes import (
    DOUBT_TIME,
    LIFETIME,
    MOST_RECORDS,
    AgentKind,
    MessageSizes,
    sizes_to_try,
)

NOW = 1_800_000_000.0
OURS = AgentKind("3.3.987.0", "ssmmessages.eu-west-1.amazonaws.com")
NEWER = AgentKind("3.3.5068.0", OURS.endpoint)
ELSEWHERE = AgentKind(OURS.version, "ssmmessages.us-east-1.amazonaws.com")
ENTRY = {
    "agent": OURS.version,
    "endpoint": OURS.endpoint,
    "accepted": 8192,
    "refused": None,
    "at": NOW - 60,
}


def _sizes(now=NOW):
    return MessageSizes(lambda: now)


def _knowing(size=8192):
    sizes = _sizes()
    assert sizes.begin(OURS, 32768) == 4096
    sizes.accept(OURS, size)
    return sizes


@pytest.mark.parametrize(
    ("limit", "expected"),
    [
        (1024, []),
        (1031, []),
        (1032, [1032]),
        (4096, [4096]),
        (6001, [4096, 6000]),
        (8192, [4096, 8192]),
        (32768, [4096, 8192, 16384, 32768]),
    ],
)
def test_sizes_double_up_to_the_limit_and_hold_whole_nops(limit, expected):
    assert list(sizes_to_try(limit)) == expected


def test_of_an_agent_that_nobody_has_met_only_the_usual_size_is_known():
    assert _sizes().allowed(OURS, 8192) == 1024


def test_what_was_acknowledged_is_used_and_the_next_size_is_tried():
    sizes = _sizes()
    assert sizes.begin(OURS, 8192) == 4096
    sizes.accept(OURS, 4096)
    assert sizes.allowed(OURS, 8192) == 4096
    assert sizes.begin(OURS, 8192) == 8192
    sizes.accept(OURS, 8192)
    assert sizes.begin(OURS, 8192) is None
    assert [sizes.allowed(OURS, limit) for limit in (1024, 5000, 32768)] == [
        1024,
        5000,
        8192,
    ]


def test_a_result_is_only_for_agents_of_that_version_at_that_endpoint():
    sizes = _knowing()
    for other in (NEWER, ELSEWHERE):
        assert sizes.allowed(other, 8192) == 1024
        assert sizes.begin(other, 8192) == 4096


def test_one_trial_of_a_kind_is_under_way_at_a_time():
    sizes = _sizes()
    assert sizes.begin(OURS, 8192) == 4096
    assert sizes.begin(OURS, 8192) is None
    assert sizes.begin(NEWER, 8192) == 4096
    sizes.abandon(OURS, 4096, unclear=False)
    assert sizes.begin(OURS, 8192) == 4096


def test_what_ended_a_session_is_not_tried_again_nor_anything_larger():
    sizes = _knowing(4096)
    assert sizes.begin(OURS, 32768) == 8192
    sizes.refuse(OURS, 8192)
    assert sizes.begin(OURS, 32768) is None
    assert sizes.begin(OURS, 6000) == 6000
    assert sizes.allowed(OURS, 32768) == 4096


def test_a_trial_that_was_lost_for_another_reason_counts_the_second_time():
    sizes = _sizes()
    for _ in range(2):
        assert sizes.begin(OURS, 8192) == 4096
        sizes.abandon(OURS, 4096, unclear=True)
    assert sizes.begin(OURS, 8192) is None


def test_a_size_that_was_acknowledged_and_is_refused_later_is_not_used_any_more():
    sizes = _knowing()
    sizes.refuse(OURS, 8192)
    assert sizes.allowed(OURS, 8192) == 1024
    assert sizes.begin(OURS, 8192) == 4096


def test_what_is_doubted_is_tried_again_and_the_second_time_refused():
    sizes = _knowing()
    sizes.doubt(NEWER, 100.0)
    sizes.doubt(OURS, 100.0)
    assert sizes.allowed(OURS, 8192) == 1024
    assert sizes.begin(OURS, 8192) == 4096
    sizes.accept(OURS, 8192)
    sizes.doubt(OURS, 101.0 + DOUBT_TIME)
    assert sizes.begin(OURS, 8192) == 4096
    sizes.accept(OURS, 8192)
    sizes.doubt(OURS, 102.0 + DOUBT_TIME)
    assert sizes.begin(OURS, 8192) is None
    assert sizes.allowed(OURS, 8192) == 1024


def test_one_event_that_ends_many_sessions_is_one_doubt():
    sizes = _knowing()
    sizes.doubt(OURS, 100.0)
    sizes.doubt(OURS, 100.001)
    assert sizes.begin(OURS, 8192) == 4096


def test_records_are_bounded_and_the_oldest_one_goes():
    sizes = _sizes()
    for number in range(MOST_RECORDS + 1):
        kind = AgentKind(f"3.3.{number}.0", OURS.endpoint)
        assert sizes.begin(kind, 8192) == 4096
        sizes.accept(kind, 4096)
    assert len(sizes.export()) == MOST_RECORDS
    assert sizes.allowed(AgentKind("3.3.0.0", OURS.endpoint), 8192) == 1024
    assert sizes.allowed(kind, 8192) == 4096


def test_what_is_kept_is_what_another_process_knows():
    sizes, told = _knowing(), []
    sizes.changed = lambda: told.append(True)
    sizes.refuse(NEWER, 4096)
    assert told == [True]
    assert sizes.begin(ELSEWHERE, 8192) == 4096  # nothing is known of it yet
    entries = json.loads(json.dumps(sizes.export()))
    later = _sizes(NOW + LIFETIME)
    later.restore(entries)
    assert later.allowed(OURS, 8192) == 8192
    assert later.begin(NEWER, 8192) is None
    assert later.export() == entries
    too_late = _sizes(NOW + LIFETIME + 1)
    too_late.restore(entries)
    assert too_late.export() == []


def test_what_was_learnt_meanwhile_goes_before_what_was_kept():
    sizes = _knowing()
    sizes.restore([{**ENTRY, "accepted": 4096}, {**ENTRY, "agent": NEWER.version}])
    assert sizes.allowed(OURS, 8192) == 8192
    assert sizes.allowed(NEWER, 8192) == 8192
    # What changed last goes last.
    assert [entry["agent"] for entry in sizes.export()] == [NEWER.version, OURS.version]


@pytest.mark.parametrize(
    "damage",
    [
        {"agent": ""},
        {"agent": "x" * 257},
        {"agent": 3},
        {"endpoint": None},
        {"accepted": 1023},
        {"accepted": 32769},
        {"accepted": "8192"},
        {"accepted": True},
        {"accepted": 8192.0},
        {"refused": 8192},
        {"refused": 1 << 40},
        {"refused": "no"},
        {"at": None},
        {"at": "today"},
        {"at": NOW + 1},
        {"at": NOW - LIFETIME - 1},
        {"at": float("nan")},
        {"at": float("inf")},
    ],
)
def test_an_entry_that_makes_no_sense_is_left_out(damage):
    sizes = _sizes()
    sizes.restore([ENTRY | damage, ENTRY | {"agent": NEWER.version}])
    assert [entry["agent"] for entry in sizes.export()] == [NEWER.version]


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
        lambda inner: (
            st.lists(inner, max_size=4)
            | st.dictionaries(st.sampled_from([*ENTRY, "x"]), inner, max_size=6)
        ),
        max_leaves=12,
    )
)
def test_nothing_that_a_file_holds_does_harm(found):
    sizes = _sizes()
    sizes.restore(found)
    assert 1024 <= sizes.allowed(OURS, 32768) <= 32768
