"""Carries out a schedule, and remembers whom it killed."""

import asyncio

from ssmtunneld.emulator.faults import Action


class Adversary:
    """Does to an emulator what a schedule says.

    Args:
        emulator: The service.
        random: Chooses victims.
        log_in: Renews the caller's credentials.
        lasting: Faults that are none of its doing, and stay when all is healed.
    """

    def __init__(self, emulator, random, log_in, lasting=()):
        self.killed = set()
        """Ids of sessions that were ended."""
        self.doubtful = set()
        """Ids of those whose client may have been told so although they live."""
        self.told_so = 0
        """The number of clients that may have been told so."""
        self.refusals = []
        """Pairs of times between which destinations refused; None for not yet."""
        self.done = 0
        self._emulator = emulator
        self._random = random
        self._log_in = log_in
        self._lasting = lasting
        self._loop = asyncio.get_running_loop()
        self._abducted = []
        self._watched = {}
        self._old = None
        self._timers = []

    def begin(self, schedule):
        """Start the clock of ``schedule``."""
        now = self._loop.time()
        self._timers = [
            self._loop.call_at(now + step.at, self._do, step) for step in schedule
        ]

    def _do(self, step):
        self.done += 1
        getattr(self, step.verb)(*step.arguments)

    def heal(self):
        """End all faults; nothing goes wrong from here on."""
        for timer in self._timers:
            timer.cancel()
        self.bury()
        self.end_doubt()
        self.accept_dials()
        self._emulator.faults.replace(self._lasting)
        self._emulator.sessions.do(Action.START)
        self._log_in()

    def live(self):
        """Return the sessions that are not over."""
        return [session for session in self._emulator.sessions if not session.over]

    @property
    def unconnected(self):
        """Ids of the basic sessions whose agent was refused by the destination."""
        words = "Unable to connect"
        return {s.id for s in self._emulator.sessions if words in s.output}

    # The verbs of a schedule.

    def apply(self, spec):
        """Change the faults in force."""
        self._emulator.admin.change([spec], replace=False)

    def act(self, action, everywhere):
        """Do something that ends no session."""
        for session in self.live() if everywhere else self._victims():
            session.do(action)

    def kill(self, action):
        """End a session."""
        for session in self._victims():
            self.killed.add(session.id)
            session.do(action)

    def abduct(self):
        """Take a session's websocket away."""
        for session in self._victims():
            self._abducted.append(session)
            session.do(Action.CUT)

    def bury(self):
        """End those whose websocket was taken away, if it is still away."""
        while self._abducted:
            session = self._abducted.pop()
            if not (session.over or session.attached):
                self.killed.add(session.id)
                session.end()

    def doubt(self):
        """Begin to watch whose client may hear that its session has timed out."""
        self.end_doubt()
        self._watched = {s: s.websockets for s in self._emulator.sessions if not s.over}
        self._old = {session.id for session in self._emulator.sessions}
        self._suspect()

    def _suspect(self):
        for session, websockets in self._watched.items():
            if _may_have_resumed(session, websockets):
                self.doubtful.add(session.id)

    def end_doubt(self):
        """Know whose client may have heard that."""
        if self._old is not None:
            self._suspect()
            new = (s for s in self._emulator.sessions if s.id not in self._old)
            self.doubtful.update(s.id for s in new if _may_have_resumed(s, 1))
            self.told_so += 1
        self._watched, self._old = {}, None

    def refuse_dials(self):
        """Let destinations refuse."""
        self.apply("refuse-dial")
        self.refusals.append([self._loop.time(), None])

    def accept_dials(self):
        """Let them no longer refuse."""
        self.apply("refuse-dial=off")
        for window in self.refusals:
            window[1] = window[1] or self._loop.time()

    def log_in(self):
        """Let new credentials be valid."""
        self._log_in()
        self.apply("start-error=none*0,resume-error=none*0,upgrade-error=none*0")

    def _victims(self):
        """Choose one session, most likely one that is in use; none if there is none."""
        live = [session for session in self.live() if session.agent.ready.is_set()]
        used = [s for s in live if s.agent.plugin and s.agent.plugin.streams()]
        choice = used if used and self._random.random() < 0.8 else live
        return [self._random.choice(choice)] if choice else []


def _may_have_resumed(session, websockets):
    """Say whether a client may have asked for a token since so many websockets.

    If it was told that there is none, it may not have ended the session yet, or just
    now.
    """
    return session.over or not session.attached or session.websockets != websockets
