"""Daemons, people and crashes around one instance, one call at a time."""

from dataclasses import replace

from hypothesis import note, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from ssmtunneld.sessions.bastion_plan import (
    CLAIM_TIME,
    LEASE,
    LOOK,
    PAUSE,
    SKEW,
    STOP_DOUBT,
    Erase,
    Rest,
    Sight,
    Situation,
    Start,
    Stop,
    Sweep,
    Use,
    Wait,
    Write,
    decide,
    read_mark,
    write_mark,
)

STOP_AFTER = 1800.0
DAEMONS = ("a", "b", "c")
daemons = st.sampled_from(DAEMONS)


class Computer:
    """The instance as it is, and who is to blame for its present launch."""

    def __init__(self):
        self.state = "stopped"
        self.launched = 1000.0
        self.tags = {}
        self.by = None
        self.starts = 0

    def sight(self):
        """Return what DescribeInstances shows."""
        marks = {key: read_mark(text) for key, text in self.tags.items()}
        assert None not in marks.values()
        return Sight(self.state, self.launched, marks)


class Daemon:
    """A daemon that may be killed between any two calls."""

    def __init__(self, key, skew):
        self.key = key
        self.skew = skew
        self.alive = True
        self.clients = 0
        self.uses = False
        self.hands_over = False
        self.forget()

    def forget(self):
        """Lose what is in memory."""
        self.used_at = float("-inf")
        self.trusted = 0.0
        self.seen = {}
        self.seen_tags = {}
        self.pending = None
        self.met_own = False
        self.awake = self.uses = self.hands_over = False
        self.clients = 0


class BastionMachine(RuleBasedStateMachine):
    """Steps of daemons in any order, with looks and calls apart from each other."""

    say = staticmethod(note)

    def __init__(self):
        super().__init__()
        self.now = 1_790_000_000.0
        self.computer = Computer()
        self.daemons = {}
        self.has_people = False

    @initialize(
        skews=st.tuples(*[st.integers(-100, 100)] * len(DAEMONS)),
        has_people=st.booleans(),
    )
    def begin(self, skews, has_people):
        self.has_people = has_people
        for key, skew in zip(DAEMONS, skews, strict=True):
            self.daemons[key] = Daemon(key, float(skew))

    # Time, people, clients, crashes.

    @rule(seconds=st.sampled_from([1.0, 5.0, 30.0, 60.0, 300.0, 900.0, 2000.0]))
    def wait(self, seconds):
        # Whoever lives looks often enough; calls do not take longer than that.
        if seconds > 30.0:
            for key in DAEMONS:
                self.finish(key)
            self.renew(seconds)
        else:
            self.pass_time(seconds)

    def pass_time(self, seconds):
        self.now += seconds
        for daemon in self.daemons.values():
            if daemon.clients:
                daemon.used_at = self.now
        computer = self.computer
        computer.state = {"pending": "running", "stopping": "stopped"}.get(
            computer.state, computer.state
        )

    def renew(self, seconds):
        """Let time pass as it does for daemons that look once a minute."""
        end = self.now + seconds
        while self.now < end:
            steps = [self.step_through(key) for key in DAEMONS]
            hurry = any(isinstance(step, Wait) for step in steps)
            self.pass_time(min(PAUSE + 1.0 if hurry else LOOK, end - self.now))

    @rule(key=daemons)
    def client_comes(self, key):
        daemon = self.daemons[key]
        if daemon.alive and not daemon.hands_over:
            daemon.clients += 1
            daemon.used_at = self.now
            # Whoever comes while it is awake is not made to wait for a look.
            daemon.uses |= daemon.awake and self.computer.state == "running"

    @rule(key=daemons)
    def client_is_served(self, key):
        """Let one come, and have it started in peace."""
        self.client_comes(key)
        self.wait(60.0)

    @rule(key=daemons)
    def clients_leave(self, key):
        daemon = self.daemons[key]
        daemon.clients = 0
        daemon.uses = False

    @rule(key=st.sampled_from(DAEMONS[1:]))
    def hand_over(self, key):
        """Leave it to "a", a process of the same user, if that is there."""
        daemon = self.daemons[key]
        if daemon.alive and not daemon.clients and self.tell_holder():
            daemon.hands_over = True

    def tell_holder(self):
        holder = self.daemons["a"]
        if holder.alive:
            holder.used_at = max(holder.used_at, self.now)
        return holder.alive

    @rule(key=daemons)
    def crash(self, key):
        daemon = self.daemons[key]
        mark = self.computer.sight().marks.get(key)
        if self.computer.by == "person" and mark and mark.claim and not mark.launch:
            return  # the coincidence, the other way round
        self.say(f"{key} dies before {daemon.pending}")
        daemon.alive = False
        daemon.forget()

    @rule(key=daemons)
    def restart(self, key):
        self.daemons[key].alive = True

    @precondition(lambda self: self.has_people)
    @rule()
    def person_starts(self):
        # The one coincidence that is not told apart (docs/tasks/sleeping.md): somebody
        # starts it within minutes after a daemon has died between claim and start.
        marks = self.computer.sight().marks.values()
        fresh = [
            m
            for m in marks
            if m.claim and not m.launch and self.now - m.claim < CLAIM_TIME + 2 * SKEW
        ]
        if self.computer.state == "stopped" and not fresh:
            self.launch("person")

    @precondition(lambda self: self.has_people)
    @rule()
    def person_stops(self):
        if self.computer.state == "running":
            self.halt()

    def launch(self, by):
        self.computer.state = "pending"
        self.computer.launched = max(float(int(self.now)), self.computer.launched + 1)
        self.computer.by = by
        self.computer.starts += 1
        self.say(f"started by {by}")

    def halt(self):
        self.computer.state = "stopping"
        for daemon in self.daemons.values():
            daemon.uses = False  # its sessions are over

    # Daemons: a look and a decision, then the call, with anything in between.

    @precondition(lambda self: any(d.alive for d in self.daemons.values()))
    @rule(key=daemons)
    def look(self, key):
        daemon = self.daemons[key]
        if daemon.alive and daemon.pending is None:
            daemon.pending = decide(self.situation(daemon))
            self.say(f"{key} at {self.now:.0f}: {daemon.pending}")

    @rule(key=daemons)
    def act(self, key):
        self.finish(key)

    def finish(self, key):
        daemon = self.daemons[key]
        step, daemon.pending = daemon.pending, None
        if daemon.alive and step is not None:
            self.carry_out(daemon, step)

    def step_through(self, key):
        for _ in range(10):
            self.finish(key)
            daemon = self.daemons[key]
            if not daemon.alive:
                return None
            step = decide(self.situation(daemon))
            self.carry_out(daemon, step)
            if not isinstance(step, Write | Erase | Sweep | Start | Stop):
                return step
        return step

    def situation(self, daemon):
        sight = self.computer.sight()
        daemon.seen_tags = dict(self.computer.tags)
        now = self.now + daemon.skew
        if not daemon.met_own:
            daemon.met_own = True
            if daemon.key in sight.marks:
                daemon.used_at = self.now
                daemon.trusted = sight.marks[daemon.key].claim
        current = {
            (key, mark.stopping)
            for key, mark in sight.marks.items()
            if mark.stopping and key != daemon.key
        }
        daemon.seen = {which: daemon.seen.get(which, now) for which in current}
        return Situation(
            sight,
            daemon.key,
            "me@here",
            now,
            needed=daemon.clients > 0,
            kept=self.now < daemon.used_at + STOP_AFTER and not daemon.hands_over,
            may_stop=True,
            trusted=daemon.trusted,
            announced={key: at for (key, _), at in daemon.seen.items()},
            is_handed_over=daemon.hands_over,
        )

    def carry_out(self, daemon, step):
        computer = self.computer
        match step:
            case Write(mark):
                text = write_mark(mark)
                assert read_mark(text) == replace(mark, by="me@here")
                computer.tags[daemon.key] = text
                if mark.claim and not mark.launch:
                    daemon.trusted = 0.0
            case Erase():
                computer.tags.pop(daemon.key, None)
            case Sweep(keys):
                for key in keys:
                    if computer.tags.get(key) == daemon.seen_tags[key]:
                        computer.tags.pop(key, None)
            case Start():
                self.start(daemon)
            case Stop():
                self.stop(daemon)
            case Use():
                daemon.uses = daemon.clients > 0 and computer.state == "running"
            case _:
                pass
        if daemon.hands_over and isinstance(step, Use | Rest):
            self.end_handing_over(daemon)
        lease = isinstance(step, Write) and not step.mark.stopping
        stays = lease or isinstance(step, Sweep)
        daemon.awake = isinstance(step, Use) or (daemon.awake and stays)

    def end_handing_over(self, daemon):
        own = self.computer.sight().marks.get(daemon.key)
        if own is not None and own.claim and not own.launch:
            return
        if self.tell_holder():
            daemon.alive = False
            daemon.forget()
        daemon.hands_over = False

    def start(self, daemon):
        own = self.computer.sight().marks.get(daemon.key)
        daemon.trusted = 0.0 if own is None else own.claim
        if self.computer.state == "stopped":
            self.launch(daemon.key)
        elif self.computer.state != "stopping":
            daemon.trusted = 0.0

    def stop(self, daemon):
        computer = self.computer
        if daemon.clients or computer.state not in {"pending", "running"}:
            return
        assert computer.by != "person", "stopped what a person has started"
        users = [d.key for d in self.daemons.values() if d.uses and d.alive]
        assert not users, f"stopped under {users}"
        self.halt()

    # What must hold.

    @invariant()
    def what_one_of_us_has_started_is_known_as_such(self):
        """From the tags alone: whoever comes after a crash can know it."""
        computer = self.computer
        if computer.by in DAEMONS and computer.state in {"pending", "running"}:
            assert computer.sight().is_ours

    @invariant()
    def what_a_person_has_started_is_nobody_s(self):
        """Except while the daemon that was second has not heard the answer yet."""
        computer = self.computer
        if computer.by == "person" and computer.state in {"pending", "running"}:
            held = [k for k, m in computer.sight().marks.items() if m.launch]
            launches = {computer.sight().marks[k].launch for k in held}
            assert computer.launched not in launches

    def teardown(self):
        """With one daemon alive and nobody there, it does not run for ever."""
        if not self.daemons:
            return
        for daemon in self.daemons.values():
            daemon.clients = 0
            daemon.uses = False
        self.daemons["a"].alive = True
        hours = STOP_AFTER + LEASE + 2 * SKEW + STOP_DOUBT + CLAIM_TIME + PAUSE
        self.renew(2 * hours)
        computer = self.computer
        assert computer.by == "person" or computer.state == "stopped"
        # Nor is anything left of those that never came back.
        assert computer.tags == {}


TestBastionMachine = BastionMachine.TestCase
TestBastionMachine.settings = settings(
    max_examples=100, stateful_step_count=40, deadline=None
)


def test_ten_that_come_together_start_it_once():
    machine = BastionMachine()
    machine.say = lambda _: None
    machine.begin((0, 0, 0), has_people=False)
    for key in DAEMONS:
        for _ in range(10):
            machine.client_comes(key)
    for _ in range(20):
        for key in DAEMONS:
            machine.look(key)
        for key in DAEMONS:
            machine.act(key)
        machine.pass_time(5.0)
    assert machine.computer.starts == 1
    assert all(machine.daemons[key].uses for key in DAEMONS)
    assert isinstance(decide(machine.situation(machine.daemons["a"])), Use | Wait)
