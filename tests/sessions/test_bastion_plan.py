"""The next step about an instance that is started on demand."""

from dataclasses import replace

import pytest

from ssmtunneld.sessions.bastion_plan import (
    CLAIM_RENEWAL,
    CLAIM_TIME,
    LEASE,
    LOOK,
    PAUSE,
    POLL,
    RENEWAL,
    REST_LOOK,
    SKEW,
    STOP_DOUBT,
    STOP_TIME,
    Erase,
    Mark,
    Rest,
    Sight,
    Situation,
    Start,
    Stop,
    Sweep,
    Use,
    Wait,
    Write,
    carry_over,
    decide,
    read_mark,
    write_mark,
)

NOW = 1_790_000_000.0
LAUNCH = NOW - 3600
ME, OTHER = "ssmtunneld:me", "ssmtunneld:other"
STARTED = Mark("me@here", until=NOW + LEASE, claim=LAUNCH - 5, was=5.0, launch=LAUNCH)


def situation(state="running", marks=None, launched=LAUNCH, **facts):
    known = {"needed": False, "may_stop": True, **facts}
    sight = Sight(state, launched, marks or {})
    return Situation(sight, ME, "me@here", NOW, **known)


def test_a_mark_is_what_was_written():
    mark = replace(STARTED, stopping=NOW)
    text = write_mark(mark)
    assert read_mark(text) == mark
    assert text.startswith("by=me@here claim=2026-")
    assert len(text) <= 256
    assert read_mark(f"{text} newer=word") == mark


def test_a_mark_holds_whatever_a_user_is_called():
    text = write_mark(replace(STARTED, by="Zoë Müller=x " * 30, stopping=NOW))
    assert len(text) <= 256
    assert read_mark(text).launch == LAUNCH


@pytest.mark.parametrize("text", ["", "until=2026-01-01T00:00:00Z", "something else"])
def test_what_is_no_mark_of_ours_is_none(text):
    assert read_mark(text) is None


def test_a_time_that_cannot_be_read_is_none():
    assert read_mark("by=me until=tomorrow") == Mark("me")


def test_a_claim_is_written_before_the_start():
    step = decide(situation("stopped", needed=True))
    assert step == Write(Mark("me@here", until=NOW + LEASE, claim=NOW, was=LAUNCH))
    assert decide(situation("stopped", {ME: step.mark}, needed=True)) == Start()


def test_an_old_claim_is_written_anew():
    old = Mark("me@here", claim=NOW - CLAIM_RENEWAL, was=LAUNCH)
    step = decide(situation("stopped", {ME: old}, needed=True))
    assert isinstance(step, Write)
    assert step.mark.claim == NOW


def test_what_is_never_stopped_is_started_without_a_claim():
    assert decide(situation("stopped", needed=True, may_stop=False)) == Start()


def test_nobody_starts_what_nobody_needs():
    assert decide(situation("stopped")) == Rest(NOW + REST_LOOK)
    assert decide(situation("stopped", {ME: STARTED})) == Erase()
    claimed = Mark("me@here", claim=NOW - 10, was=LAUNCH)
    assert decide(situation("stopped", {ME: claimed})) == Rest(NOW + LOOK)


def test_the_claim_is_bound_to_the_launch_that_followed():
    claim = Mark("me@here", until=NOW + LEASE, claim=NOW - 5, was=LAUNCH)
    after = {"launched": NOW - 3, "needed": True}
    found = situation("pending", {ME: claim}, trusted=NOW - 5, **after)
    assert decide(found) == Write(replace(claim, launch=NOW - 3))


def test_a_claim_whose_start_was_not_sent_is_for_nothing():
    claim = Mark("me@here", until=NOW + LEASE, claim=NOW - 5, was=LAUNCH)
    found = situation("pending", {ME: claim}, launched=NOW - 3, needed=True)
    assert decide(found) == Write(Mark("me@here", until=NOW + LEASE))


def test_an_answer_older_than_the_start_is_waited_out():
    claim = Mark("me@here", until=NOW + LEASE, claim=NOW - 5, was=LAUNCH)
    found = situation("pending", {ME: claim}, trusted=NOW - 5, needed=True)
    assert decide(found) == Wait(NOW + POLL)


@pytest.mark.parametrize(
    ("launched", "is_ours"),
    [
        (LAUNCH, False),  # it was launched before the claim
        (NOW + 3, True),
        (NOW + CLAIM_TIME, True),
        (NOW + CLAIM_TIME + 1, False),
        (NOW - SKEW - 1, False),
    ],
)
def test_a_claim_is_for_the_launch_after_it(launched, is_ours):
    claim = Mark("me@here", claim=NOW, was=LAUNCH)
    assert claim.proves(launched) is is_ours


def test_a_launch_without_our_mark_is_used_and_left_alone():
    assert decide(situation(needed=True)) == Use(NOW + LOOK)
    assert decide(situation()) == Use(NOW + LOOK)
    later = situation(marks={ME: STARTED}, launched=LAUNCH + 900)
    assert decide(later) == Erase()


def test_a_lease_comes_before_the_use():
    theirs = {OTHER: STARTED}
    step = decide(situation(marks=theirs, needed=True))
    assert step == Write(Mark("me@here", until=NOW + LEASE))
    both = {**theirs, ME: step.mark}
    assert isinstance(decide(situation(marks=both, needed=True)), Use)


def test_a_lease_is_renewed_in_time():
    ending = replace(STARTED, until=NOW + RENEWAL - 1)
    step = decide(situation(marks={ME: ending}, kept=True))
    assert step == Write(replace(STARTED, until=NOW + LEASE))
    step = decide(
        situation(marks={ME: replace(ending, until=NOW + RENEWAL + 7)}, kept=True)
    )
    assert step == Use(NOW + 7)


def test_it_is_announced_looked_at_again_and_stopped():
    step = decide(situation(marks={ME: STARTED}))
    assert step == Write(replace(STARTED, until=0.0, stopping=NOW))
    assert decide(situation(marks={ME: step.mark})) == Wait(NOW + PAUSE)
    waited = replace(step.mark, stopping=NOW - PAUSE)
    assert decide(situation(marks={ME: waited})) == Stop()


def test_an_announcement_of_long_ago_is_made_again():
    old = replace(STARTED, stopping=NOW - STOP_TIME - 1)
    assert decide(situation(marks={ME: old})) == Write(
        replace(old, until=0.0, stopping=NOW)
    )


@pytest.mark.parametrize("left", [LEASE, 0.0, -SKEW + 1])
def test_a_lease_of_another_daemon_holds_however_its_clock_goes(left):
    announced = replace(STARTED, stopping=NOW - PAUSE, until=0.0)
    theirs = Mark("you@there", until=NOW + left)
    # What was announced would hold up whoever else comes.
    withdrawn = replace(announced, stopping=0.0)
    assert decide(situation(marks={ME: announced, OTHER: theirs})) == Write(withdrawn)
    step = decide(situation(marks={ME: withdrawn, OTHER: theirs}))
    assert step == Rest(min(NOW + REST_LOOK, NOW + left + SKEW))


def test_who_leaves_it_to_others_gives_up_the_lease_and_not_the_proof():
    theirs = Mark("you@there", until=NOW + 5)
    step = decide(situation(marks={ME: STARTED, OTHER: theirs}))
    assert step == Write(replace(STARTED, until=0.0))
    only_used = Mark("me@here", until=NOW + LEASE)
    both = {ME: only_used, OTHER: replace(STARTED, until=NOW + 5)}
    assert decide(situation(marks=both)) == Erase()


def test_one_daemon_may_stop_what_another_has_started_and_left():
    theirs = replace(STARTED, until=NOW - SKEW)
    step = decide(situation(marks={OTHER: theirs}))
    assert step == Write(Mark("me@here", launch=LAUNCH, stopping=NOW))


def test_who_has_no_time_set_stops_nothing_and_holds_nobody_up():
    theirs = {OTHER: replace(STARTED, until=0.0)}
    assert decide(situation(marks=theirs, may_stop=False)) == Rest(NOW + REST_LOOK)
    both = {**theirs, ME: Mark("me@here", until=NOW + LEASE)}
    assert decide(situation(marks=both, may_stop=False)) == Erase()


@pytest.mark.parametrize(
    ("age", "step"), [(SKEW + STOP_DOUBT - 1, Wait), (SKEW + STOP_DOUBT, Use)]
)
def test_an_announcement_is_believed_for_as_long_as_clocks_differ(age, step):
    """Also by a daemon that has just begun, and sees it for the first time."""
    marks = {ME: STARTED, OTHER: Mark("you@there", launch=LAUNCH, stopping=NOW - age)}
    found = situation(marks=marks, needed=True, announced={OTHER: NOW})
    assert isinstance(decide(found), step)


def test_a_stop_that_was_announced_may_still_come():
    mine = Mark("me@here", until=NOW + LEASE)
    marks = {ME: mine, OTHER: replace(STARTED, stopping=NOW - 5)}
    seen = {OTHER: NOW - STOP_DOUBT + 1}
    found = situation(marks=marks, needed=True, announced=seen)
    assert decide(found) == Wait(NOW + POLL)
    seen = {OTHER: NOW - STOP_DOUBT}
    assert isinstance(decide(situation(marks=marks, needed=True, announced=seen)), Use)


def test_the_announcement_of_an_earlier_launch_says_nothing():
    mine = replace(STARTED, launch=LAUNCH + 900)
    marks = {ME: mine, OTHER: replace(STARTED, stopping=NOW - 5)}
    found = situation(
        marks=marks, launched=LAUNCH + 900, needed=True, announced={OTHER: NOW}
    )
    assert isinstance(decide(found), Use)


def test_who_comes_before_the_stop_takes_the_announcement_back():
    announced = replace(STARTED, until=0.0, stopping=NOW - PAUSE)
    step = decide(situation(marks={ME: announced}, needed=True))
    assert step == Write(STARTED)


LEASED = Mark("me@here", until=NOW + LEASE)
CLAIMED = Mark("me@here", until=NOW + LEASE, claim=NOW, was=LAUNCH)


@pytest.mark.parametrize(
    ("former", "own", "carried"),
    [
        (STARTED, None, STARTED),
        (LEASED, None, LEASED),
        # What the daemon before it has started stays provable.
        (
            LEASED,
            replace(STARTED, by="it", until=NOW + 5),
            replace(LEASED, claim=STARTED.claim, was=STARTED.was, launch=LAUNCH),
        ),
        (
            LEASED,
            replace(STARTED, launch=0.0),
            replace(LEASED, claim=STARTED.claim, was=STARTED.was, launch=LAUNCH),
        ),
        (LEASED, replace(STARTED, launch=LAUNCH - 1), LEASED),
        # A start that is on its way is not forgotten for an old launch.
        (CLAIMED, STARTED, CLAIMED),
        (STARTED, replace(STARTED, claim=0.0), STARTED),
    ],
)
def test_a_mark_is_carried_over_with_what_proves_the_launch(former, own, carried):
    found = carry_over(former, own, LAUNCH)
    assert found == carried
    assert carry_over(former, found, LAUNCH) == carried


def test_it_is_awaited_while_it_stops_and_given_up_when_it_is_gone():
    assert decide(situation("stopping", needed=True)) == Wait(NOW + POLL)
    assert decide(situation("terminated", needed=True)) == Rest(NOW + REST_LOOK)


SPENT = {
    "its launch is over": replace(STARTED, until=0.0),
    "its lease is over": replace(STARTED, until=NOW - SKEW),
    "it was announced": replace(STARTED, until=0.0, stopping=NOW - 3600),
    "it was only used": Mark("you@there", until=NOW - SKEW),
    "it was never started": Mark("you@there", claim=NOW - 3600, was=LAUNCH),
}
HELD = {
    "a lease holds": replace(STARTED, until=NOW - SKEW + 1),
    "a start may come": Mark("you@there", claim=NOW - CLAIM_TIME, was=LAUNCH),
    "the answer is an old one": replace(STARTED, until=0.0, launch=LAUNCH + 900),
    "it is somebody else's tag": Mark("you@there"),
}


@pytest.mark.parametrize("mark", SPENT.values(), ids=SPENT)
@pytest.mark.parametrize("needed", [True, False])
def test_what_a_daemon_has_left_that_never_came_back_is_removed(mark, needed):
    marks = {OTHER: mark, "ssmtunneld:third": replace(STARTED, until=NOW)}
    found = situation("stopped", marks, needed=needed)
    assert decide(found) == Sweep(frozenset({OTHER}))
    for ignored in ({"may_sweep": False}, {"may_stop": False}):
        assert not isinstance(decide(replace(found, **ignored)), Sweep)
    # While it runs again, too: somebody may never stop it.
    found = situation("running", marks, launched=NOW - 900, needed=needed)
    assert decide(found) == Sweep(frozenset({OTHER}))


@pytest.mark.parametrize("mark", HELD.values(), ids=HELD)
def test_what_may_still_count_stays(mark):
    assert not isinstance(decide(situation("stopped", {OTHER: mark})), Sweep)


@pytest.mark.parametrize("state", ["pending", "running"])
def test_the_proof_of_a_launch_stays_as_long_as_that_lasts(state):
    for proof in (
        replace(STARTED, until=0.0),
        Mark("you@there", claim=LAUNCH - 5, was=5.0),
    ):
        assert not isinstance(decide(situation(state, {OTHER: proof})), Sweep)


def test_the_mark_of_its_own_is_not_swept_away():
    assert decide(situation("stopped", {ME: SPENT["its launch is over"]})) == Erase()


def test_nothing_comes_between_an_announcement_and_the_stop():
    announced = replace(STARTED, until=0.0, stopping=NOW - PAUSE)
    marks = {ME: announced, OTHER: SPENT["it was only used"]}
    assert decide(situation(marks=marks)) == Stop()
    stopping = replace(announced, stopping=NOW)
    assert isinstance(decide(situation(marks={**marks, ME: stopping})), Wait)


def test_who_hands_it_over_gives_up_the_lease_although_nobody_has_one():
    found = situation(marks={ME: STARTED}, is_handed_over=True)
    assert decide(found) == Write(replace(STARTED, until=0.0))
    found = situation(marks={ME: replace(STARTED, until=0.0)}, is_handed_over=True)
    assert decide(found) == Rest(NOW + REST_LOOK)
    theirs = {OTHER: replace(STARTED, until=0.0)}
    for until in (NOW + LEASE, NOW - 1):
        both = {**theirs, ME: Mark("me@here", until=until)}
        assert decide(situation(marks=both, is_handed_over=True)) == Erase()


def test_who_hands_over_a_start_binds_it_first():
    claim = Mark("me@here", until=NOW + LEASE, claim=NOW - 5, was=LAUNCH)
    found = situation(
        "pending",
        {ME: claim},
        launched=NOW - 3,
        trusted=NOW - 5,
        is_handed_over=True,
    )
    assert decide(found) == Write(replace(claim, launch=NOW - 3))
    waiting = situation("stopped", {ME: claim}, is_handed_over=True)
    assert decide(waiting) == Rest(NOW + LOOK)
