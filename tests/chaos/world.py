"""All in one process: service, agent, destination, daemon, clients, and faults."""

import asyncio
import traceback
from dataclasses import dataclass, replace
from random import Random

import uvloop

from ssmtunneld.emulator.path import PathSettings
from ssmtunneld.emulator.settings import (
    DEFAULT_AGENT_VERSION,
    EmulatorSettings,
    Pace,
)
from ssmtunneld.emulator.versions import AgentTraits
from ssmtunneld.listener.owner import sight
from ssmtunneld.sessions.policy import Phase
from tests.chaos.accounting import Judge, Report, captured_log, open_sockets, threads
from tests.chaos.adversary import Adversary
from tests.chaos.client import Client, Errand, Outcome, rest
from tests.chaos.destination import Destination
from tests.chaos.household import environment, household, port_of, watch
from tests.chaos.progress import Progress
from tests.chaos.schedule import make_schedule

READY_WITHIN = 30.0
"""Seconds from the last fault until every tunnel must have answered a connection that
was made when the faults ended, and must have its warm sessions again."""
PATIENCE = 30.0
"""Seconds after the last fault without a byte on one connection, either way, after
which that connection hangs."""
CONNECT_TIMEOUT = 15.0

_TUNNELS = """
[daemon]
drain_timeout = "2s"
start_rate = 50
start_burst = 20

[defaults]
endpoint_url = "{endpoint}"
region = "eu-west-1"
port = {port}
ping_interval = "200ms"
dead_peer_timeout = "800ms"
connect_timeout = "15s"
stream_buffer = "64KiB"
message_size = "{size}"
session_buffer = "1MiB"

[tunnels.plain]
listen = "127.0.0.1:0"
target = "i-00000000000000001"

[tunnels.pooled]
listen = "127.0.0.1:0"
target = "i-00000000000000002"
warm = 2
max_sessions = 4
streams_per_session = 2
idle_close = "1s"

[tunnels.remote]
listen = "127.0.0.1:0"
target = "i-00000000000000003"
{host}max_sessions = {few}
keep_alive = "1s"

[tunnels.lazy]
listen = "127.0.0.1:0"
target = "i-00000000000000004"
warm = 0
idle_close = "500ms"
max_session_age = "3m"
"""


@dataclass(frozen=True)
class Scale:
    """Durations and amounts of a run."""

    duration: float = 1.8
    """Seconds until the last fault."""
    pace: float = 0.22
    """Seconds from one fault to the next."""
    workers: int = 3
    """Clients that follow one another, for each tunnel."""
    largest: int = 200_000
    """Bytes of the largest transfer, each way."""
    scan_interval: float = 0.005
    """The agent's: how soon it repeats one lost message. In reality 0.1 s."""
    agent_version: str = DEFAULT_AGENT_VERSION
    """One that is too old for smux makes every session a basic one."""
    max_message: str = ""
    """The service's limit, as the emulator's fault; empty for none."""
    message_size: str = "auto"
    """The limit of trials."""
    forgetful: bool = False
    """Results of trials are forgotten again and again while faults last, so that
    nearly every session begins with a trial."""
    moving: bool = False
    """The network becomes another one again and again while faults last."""

    @property
    def basic(self):
        """True if each session carries one connection."""
        return not AgentTraits.of(self.agent_version).has_mux


def run_world(seed, directory, scale=None):
    """Run one seed to its end; return the report, problems included.

    Every second seed runs on uvloop, as the daemon does where it can.
    """
    world = World(seed, scale or Scale())
    factory = uvloop.new_event_loop if seed % 2 else asyncio.new_event_loop
    # What the first use in a process leaves behind: uvloop a pipe, and the question
    # after users of this machine a socket to the kernel.
    factory().close()
    sight()
    sockets, before = open_sockets(), threads()
    with (
        captured_log() as events,
        environment(directory) as log_in,
        asyncio.Runner(loop_factory=factory) as runner,
    ):
        runner.run(world.run(log_in))
        report = world.report
        report.events = tuple(events.last)
        report.links_lost = events.counts["link.lost"]
        if found := events.counts["defect"]:
            report.problems.append(f"{found} defects, see the log")
        report.resumed = events.counts["session.resumed"]
    for thread in threads() - before:
        thread.join(10.0)
    if left := threads() - before:
        report.problems.append(f"threads left: {left}")
    if left := open_sockets() - sockets:
        report.problems.append(f"sockets left: {left}")
    return report


class World:
    """One run. Use it once, by ``run``."""

    def __init__(self, seed, scale):
        self.report = Report(seed)
        self._seed = seed
        self._scale = scale
        self._random = Random(f"traffic {seed}")
        self._destination = Destination()
        self._results = []
        self._running = {}
        self._recovered = False
        self._numbers = iter(range(1, 1 << 31))
        self._over = False

    async def run(self, log_in):
        """Play the schedule, wait for everybody, stop, count what is left."""
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(self._on_defect)
        before = asyncio.all_tasks()
        settings = EmulatorSettings(
            pace=Pace.NONE,
            faults=(f"seed={self._seed}", *self._lasting),
            host_aliases={"orders.internal": "127.0.0.1"},
            scan_interval=self._scale.scan_interval,
            agent_version=self._scale.agent_version,
            agent_away_time=0.05,
            drain_time=0.5,
            path=PathSettings(delay=0.001) if self._scale.moving else None,
        )
        async with self._destination.listening():
            text = _tunnels(
                self._destination.port,
                basic=self._scale.basic,
                size=self._scale.message_size,
            )
            instance = f"chaos{self._seed}"
            async with household(text, settings, instance) as house:
                victims = Random(f"victims {self._seed}")
                adversary = Adversary(house.emulator, victims, log_in, self._lasting)
                judge = Judge(adversary, CONNECT_TIMEOUT)
                await self._play(house, adversary, judge)
                self._judge(judge)
                self._count_trials(house)
            self._count_sessions(house)
        await self._count_tasks(before)

    @property
    def _lasting(self):
        limit = self._scale.max_message
        return (f"max-message={limit}",) if limit else ()

    def _on_defect(self, _loop, context):
        error = context.get("exception")
        words = "".join(traceback.format_exception(error)) if error else ""
        self.report.problems.append(f"a defect: {context}\n{words}")

    # Faults and traffic.

    async def _play(self, house, adversary, judge):
        loop = asyncio.get_running_loop()
        carried = [watch(tunnel) for tunnel in house.daemon.tunnels]
        schedule = make_schedule(self._seed, self._scale.duration, self._scale.pace)
        try:
            async with asyncio.TaskGroup() as tasks:
                self._clients = tasks
                for port, by in zip(house.ports, carried, strict=True):
                    for role in range(self._scale.workers):
                        work = self._work(port, by, role)
                        tasks.create_task(work, name=f"worker {role}")
                adversary.begin(schedule)
                if self._scale.forgetful:
                    tasks.create_task(self._forget(house), name="forget")
                if self._scale.moving:
                    tasks.create_task(self._move(house.emulator), name="move")
                await rest(self._scale.duration)
                self._over = True
                adversary.heal()
                healed = loop.time()
                watching = tasks.create_task(self._watch_progress(), name="progress")
                await self._recover(house, carried, judge, healed)
                await watching
                self.report.completion = loop.time() - healed
        finally:
            self.report.faults = adversary.done

    async def _forget(self, house):
        """Forget what trials have shown, until the faults end."""
        while not self._over:
            house.daemon._context.message_sizes._records.clear()
            await rest(0.05)

    async def _move(self, emulator):
        """Replace the network, until the faults end; the last one is a good one."""
        random = Random(f"paths {self._seed}")
        while not self._over:
            emulator.change_path(
                PathSettings(
                    delay=random.choice([0.0005, 0.005, 0.03, 0.08]),
                    rate=random.choice([None, 1e6, 3e6, 12e6]),
                    queue=random.choice([0.01, 0.05, 0.2]),
                )
            )
            self.report.moves += 1
            await rest(random.uniform(0.05, 0.4))
        emulator.change_path(PathSettings(delay=0.001))

    async def _watch_progress(self):
        """Return when all connections have ended; cut each of them that hangs."""
        progress = Progress(PATIENCE)
        while self._running or not self._recovered:
            now = asyncio.get_running_loop().time()
            for result in progress.hanging(self._running, now):
                self._running[result].cancel()
            await rest(0.1)
        self.report.silence = progress.longest

    async def _recover(self, house, carried, judge, healed):
        """Wait until every tunnel has answered one connection, and is warm."""
        loop = asyncio.get_running_loop()
        tunnels = house.daemon.tunnels
        try:
            async with asyncio.timeout_at(healed + READY_WITHIN):
                async with asyncio.TaskGroup() as tasks:
                    for tunnel, by in zip(tunnels, carried, strict=True):
                        name = f"probe of {tunnel.settings.name}"
                        tasks.create_task(self._probe(tunnel, by, judge), name=name)
        except TimeoutError:
            states = [tunnel.pool.snapshot() for tunnel in tunnels]
            self.report.problems.append(f"not ready in {READY_WITHIN} s: {states}")
        self.report.recovery = loop.time() - healed
        self._recovered = True

    async def _probe(self, tunnel, carried, judge):
        """Make one connection; only the loss of its session excuses another."""
        while True:
            number, ends_first = next(self._numbers), self._scale.basic
            probe = Client(Errand(number, up=100, down=100, ends_first=ends_first))
            result = probe.result
            await self._run(probe, port_of(tunnel), carried)
            if result.outcome is Outcome.COMPLETE:
                break
            if result.session is None:
                self.report.problems.append(f"there was no session for {result}")
            if result.session is None or judge.verdict(result) is not None:
                return  # the judge will say so again
            self.report.probes_lost += 1
        while _count_ready(tunnel) < tunnel.settings.warm and not self._scale.basic:
            await rest(0.05)

    async def _work(self, port, carried, role):
        while not self._over:
            client = Client(self._errand(role))
            await self._run(client, port, carried)
            if client.result.outcome is not Outcome.COMPLETE:
                await rest(0.02)

    async def _run(self, client, port, carried):
        """Run one client, whose task can be cut by who looks at its progress."""
        result = client.result
        task = self._clients.create_task(client.run(port), name="client")
        self._results.append(result)
        self._running[result] = task

        def note_end(_task):
            del self._running[result]
            # Now, because ports are used again.
            result.session = carried.pop(result.local_port, None)

        task.add_done_callback(note_end)
        await asyncio.wait({task})

    def _errand(self, role):
        errand = self._mux_errand(role)
        if not self._scale.basic:
            return errand
        # Such an agent says nothing of the destination's end (protocol 6.4).
        return replace(errand, ends_first=True, half_closes=False)

    def _mux_errand(self, role):
        random, number = self._random, next(self._numbers)
        size = int(self._scale.largest * random.random() ** 2)
        if role == 0:
            # A conversation that goes on for as long as the faults do.
            steps = round(self._scale.duration / 0.045)
            piece = random.choice([1, 40, 1000, 3000])
            return Errand(number, up=steps * piece, echo=True, piece=piece, rest=0.03)
        kind = random.choice(
            ["upload", "download", "both", "both", "echo", "slow", "leave", "half"]
        )
        match kind:
            case "upload":
                return Errand(number, up=size, down=random.randrange(100))
            case "download":
                return Errand(number, up=random.randrange(100), down=size)
            case "echo":
                return Errand(number, up=size // 4, echo=True, piece=1 + size // 40)
            case "slow":
                piece = max(2048, size // 20)
                return Errand(
                    number, down=size, piece=piece, rest=0.02, slow_reader=True
                )
            case "leave":
                return Errand(number, up=size, down=size, leaves_after=size // 2)
            case "half":
                return Errand(number, up=size, down=size, half_closes=True)
        return Errand(number, up=size, down=size)

    # The account.

    def _judge(self, judge):
        report = self.report
        report.killed = judge.killed
        for result in self._results:
            report.connections += 1
            report.outcomes[result.outcome] += 1
            report.bytes_down += result.received
            verdict = judge.verdict(result)
            if verdict:
                report.problems.append(verdict)
            elif result.outcome is Outcome.RESET:
                report.resets[judge.excuse(result)] += 1
        report.bytes_up = self._destination.received
        report.problems += self._destination.defects
        served = self._destination.served
        again = [number for number, times in served.items() if times > 1]
        if again:
            report.problems.append(f"connected more than once: {again}")

    def _count_trials(self, house):
        for tunnel in house.daemon.tunnels:
            counts = tunnel.pool.snapshot().counts.size_trials
            for result, number in counts.items():
                self.report.trials[result] += number
            sizes = [m.channel.message_size for m in tunnel.pool.snapshot().members]
            self.report.sizes += sizes

    def _count_sessions(self, house):
        self.report.sessions = len(list(house.emulator.sessions))
        if house.left:
            self.report.problems.append(f"sessions left on the service: {house.left}")

    async def _count_tasks(self, before):
        loop = asyncio.get_running_loop()
        deadline = loop.time() + 5.0
        while left := asyncio.all_tasks() - before - {asyncio.current_task()}:
            if loop.time() > deadline:
                self.report.problems.append(f"tasks left: {left}")
                return
            await rest(0.01)


def _tunnels(port, *, basic, size):
    values = {
        "{port}": str(port),
        # An agent without smux does not know other hosts either.
        "{host}": "" if basic else 'host = "orders.internal"\n',
        "{few}": "4" if basic else "2",
        "{size}": size,
    }
    text = _TUNNELS
    for name, value in values.items():
        text = text.replace(name, value)
    return text


def _count_ready(tunnel):
    views = [member.view for member in tunnel.pool.snapshot().members]
    return sum(view.phase is Phase.READY and not view.retiring for view in views)
