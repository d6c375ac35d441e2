"""Every seam raises in turn, and whoever is behind another bulkhead serves on (D18).

Here, and only here, methods of the package are replaced: that is the fault.
"""

import asyncio
import functools
import gc
import inspect
import socket
from contextlib import asynccontextmanager, contextmanager, suppress

import pytest

from ssmtunneld.base import compartment
from ssmtunneld.base.compartment import catch_callbacks
from ssmtunneld.config import parse_config
from ssmtunneld.daemon import tunnel
from ssmtunneld.daemon.daemon import Daemon
from ssmtunneld.daemon.instance_lock import control_socket
from ssmtunneld.emulator.server import Emulator
from ssmtunneld.emulator.settings import EmulatorSettings, Pace
from ssmtunneld.serve.systemd import Notifier, ServiceManager
from tests.chaos.client import rest
from tests.chaos.household import port_of
from tests.chaos.seams import find_seams
from tests.integration.world import connection, destination

# What breaks here may leave a socket to the garbage collector.
pytestmark = [
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.usefixtures("_impatient"),
]

PATIENCE = 30.0
"""Seconds without an echo after which one counts as lost where nothing is broken. How
soon one comes is told by tests/hostile: a machine that is short of time needs two."""
TRY = 0.2
"""Seconds that a client of what is broken waits."""
ATTEMPT = 2.0
"""Seconds that one waits who will try again."""
RECOVERY = 60.0
"""Seconds for what was broken to serve again."""
INSTANCE = "5ea35"
BYSTANDERS = ("good", "other")
HURT = ("hurt", "socks")
PLENTY = bytes(80 << 10)
"""What makes a session busy, for whatever happens only then."""
FAILURES = (TimeoutError, OSError, EOFError, AssertionError, IndexError, KeyError)
"""Exceptions of a failed connection, and of the checks and lookups around it."""

_CONFIGURATION = """
[daemon]
drain_timeout = "10ms"
start_rate = 1000
start_burst = 1000
http_listen = "unix:{folder}/http"
on_state = ["true"]

[defaults]
endpoint_url = "{endpoint}"
region = "eu-west-1"
target = "i-0123456789abcdef0"
connect_timeout = "2s"
linger = "50ms"

[tunnels.good]
listen = "127.0.0.1:0"
port = {port}

[tunnels.other]
listen = "127.0.0.1:0"
port = {port}
"""
_HURT = """
[tunnels.hurt]
listen = "127.0.0.1:0"
port = {port}
probe = "tcp"
probe_interval = "1s"

[tunnels.socks]
listen = "127.0.0.1:0"
mode = "socks5"
destinations = ["*:*"]
"""

_OF_SERVICES = (
    *("daemon.daemon", "daemon.tunnels", "daemon.service_notifier", "daemon.reload"),
    *("daemon.config_watch", "serve", "observe", "sessions.network_watch"),
)
_OF_TUNNELS = ("observe.probe",)


def _is_of_service(seam):
    name = str(seam)
    return name.startswith(_OF_SERVICES) and not name.startswith(_OF_TUNNELS)


class Unforeseen(Exception):
    """Raised by every seam in turn."""


class Faults:
    """Seams of which one raises, in the compartments that it concerns.

    Attributes:
        reached: Those that such a compartment has come by. A fault may lead to some
            that nothing else leads to.
        hits: How often the one has raised.
    """

    def __init__(self, seams, concerns):
        self.reached = set()
        self.hits = 0
        self._raising = None
        self._seams = seams
        self._concerns = concerns

    def __enter__(self):
        self._originals = {s: vars(s.owner)[s.name] for s in self._seams}
        for seam, original in self._originals.items():
            setattr(seam.owner, seam.name, self._watched(seam, original))
        return self

    def __exit__(self, *_):
        # Whoever holds a method keeps the watched one: a reader, a timer.
        self._raising = None
        for seam, original in self._originals.items():
            setattr(seam.owner, seam.name, original)

    @contextmanager
    def raising(self, seam):
        """Let ``seam`` raise."""
        self.hits = 0
        self._raising = seam
        try:
            yield
        finally:
            self._raising = None

    def in_turn(self):
        """Yield every seam that is reached, also while it goes on."""
        tried = set()
        while untried := self.reached - tried:
            seam = min(untried, key=str)
            tried.add(seam)
            yield seam

    def _watched(self, seam, original):
        def strike():
            around = compartment._around.get()
            if around is not None and self._concerns(around):
                self.reached.add(seam)
                if seam is self._raising:
                    self.hits += 1
                    raise Unforeseen

        @functools.wraps(original)
        def call(*args, **kwargs):
            strike()
            return original(*args, **kwargs)

        @functools.wraps(original)
        async def wait(*args, **kwargs):
            strike()
            return await original(*args, **kwargs)

        return wait if inspect.iscoroutinefunction(original) else call


class Scene:
    """A daemon with two tunnels that must not notice, and perhaps two that may.

    Attributes:
        daemon: The one that runs, or ran last.
        echoes: How many were asked of the tunnels that must not notice.
        lost: Those that did not come, in words.
    """

    def __init__(self, folder):
        self.daemon = None
        self.echoes = 0
        self.lost = []
        self._folder = folder
        self._hurt = set()

    @asynccontextmanager
    async def running(self, endpoint, port, *, hurt):
        """Run a daemon meanwhile."""
        self._endpoint, self._port = endpoint, port
        text = self.write(hurt=hurt)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as heard:
            address = self._folder / "notify"
            address.unlink(missing_ok=True)
            heard.bind(str(address))
            manager = ServiceManager(Notifier(str(address)), 0.05, {})
            config = parse_config(text, self._folder / "config.toml", {})
            self.daemon = Daemon(config, INSTANCE, manager)
            catch_callbacks(asyncio.get_running_loop(), self.daemon._defects)
            async with asyncio.TaskGroup() as tasks:
                task = tasks.create_task(self.daemon.run(), name="daemon")
                try:
                    yield
                finally:
                    self.daemon.stop()
                    await rest(0.05)
                    self.daemon.stop()
                    async with asyncio.timeout(RECOVERY):
                        await asyncio.wait([task])
            manager.notifier.close()

    def concerns_tunnels(self, defects):
        """Return whether a compartment is one of the tunnels that may be hurt."""
        # Also those of before: parts of them may still run.
        present = self.daemon.tunnels
        self._hurt |= {m.defects for m in present if m.settings.name in HURT}
        return defects in self._hurt

    def concerns_services(self, defects):
        """Return whether a compartment is one of the daemon's services."""
        return defects is self.daemon._defects

    async def echo(self, name):
        """Fail unless a new connection to a tunnel is answered."""
        asked = next(m for m in self.daemon.tunnels if m.settings.name == name)
        async with connection(port_of(asked)) as (reader, writer):
            if asked.settings.is_dynamic:
                writer.write(b"\x05\x01\x00\x05\x01\x00\x01\x7f\0\0\x01")
                writer.write(self._port.to_bytes(2))
                answer = await reader.readexactly(12)
                assert answer[3] == 0, answer
            data = PLENTY if name in HURT else b"echo"
            writer.write(data)
            assert await reader.readexactly(len(data)) == data

    async def get(self, path, method, target):
        """Return what a socket of the daemon's answers."""
        async with connection(path) as (reader, writer):
            head = f"{method} {target} HTTP/1.1\r\nHost: localhost\r\n"
            writer.write(
                f"{head}Content-Length: 0\r\nConnection: close\r\n\r\n".encode()
            )
            answer = await reader.read()
            assert answer.startswith(b"HTTP/1.1 200"), answer[:200]
            return answer

    async def bystanders_serve(self):
        """Ask the tunnels that must not notice."""
        for name in BYSTANDERS:
            self.echoes += 1
            try:
                async with asyncio.timeout(PATIENCE):
                    await self.echo(name)
            except FAILURES as error:
                self.lost.append(f"{name}: {error!r}")

    async def use_hurt(self, patience=TRY):
        """Do with the tunnels that may be hurt what makes them do all they can."""
        for name in HURT:
            with suppress(*FAILURES):
                async with asyncio.timeout(patience):
                    await self.echo(name)
        self.daemon._on_network("network")
        await self.daemon.survey()
        self.daemon.status()
        self.daemon.readings()

    async def use_services(self):
        """Ask the services for whatever they can do."""
        control, http = control_socket(INSTANCE), self._folder / "http"
        for method, target in (
            ("GET", "/status"),
            ("POST", "/tunnels/good/resume"),
            ("POST", "/reload"),
        ):
            await self.get(control, method, target)
        for target in ("/livez", "/readyz", "/metrics", "/status.json", "/"):
            with suppress(AssertionError):  # a tunnel may not be ready yet
                await self.get(http, "GET", target)
        await self.get(http, "GET", "/livez")

    def write(self, *, hurt):
        """Write the configuration, with the tunnels that may be hurt or without."""
        text = _CONFIGURATION + (_HURT if hurt else "")
        text = text.replace("{endpoint}", self._endpoint)
        text = text.replace("{folder}", str(self._folder))
        text = text.replace("{port}", str(self._port))
        (self._folder / "config.toml").write_text(text)
        return text

    async def start_hurt_again(self):
        """Let all their parts begin anew."""
        for hurt in (False, True):
            self.write(hurt=hurt)
            await self.daemon.reload()


async def until_well(work):
    """Do ``work`` until it succeeds; return whether it did in time."""
    loop = asyncio.get_running_loop()
    ends_at = loop.time() + RECOVERY
    while loop.time() < ends_at:
        with suppress(*FAILURES):
            async with asyncio.timeout(ATTEMPT):
                await work()
                return True
        await rest(0.02)
    return False


@pytest.fixture
def _impatient(monkeypatch):
    """Restart broken parts after milliseconds; the delays have their own tests."""
    monkeypatch.setattr(compartment, "FIRST_DELAY", 0.01)
    monkeypatch.setattr(compartment, "LAST_DELAY", 0.05)
    monkeypatch.setattr(tunnel, "REBIND_INTERVAL", 0.1)


@asynccontextmanager
async def world():
    """Run what all daemons of a test lead to; yield the endpoint and the port."""
    settings = EmulatorSettings(pace=Pace.NONE)
    async with Emulator(settings) as service, destination() as port:
        yield service.endpoint_url, port
    # Now, while that is no failure: what was broken half-way has no owner.
    gc.collect()


async def test_a_seam_of_one_tunnel_is_no_other_tunnels_business(
    events, log_in, tmp_path
):
    struck, problems = set(), []
    scene = Scene(tmp_path)
    seams = [s for s in find_seams() if not _is_of_service(s)]
    faults = Faults(seams, scene.concerns_tunnels)
    async with world() as where, scene.running(*where, hurt=True):
        await asyncio.wait_for(scene.daemon.ready.wait(), RECOVERY)
        with faults:
            await scene.start_hurt_again()
            await scene.use_hurt(ATTEMPT)
            for seam in faults.in_turn():
                with faults.raising(seam):
                    try:
                        async with asyncio.timeout(RECOVERY):
                            await scene.start_hurt_again()
                    except TimeoutError:
                        problems.append(f"{seam}: the reload hangs")
                    async with asyncio.TaskGroup() as tasks:
                        tasks.create_task(scene.use_hurt())
                        tasks.create_task(scene.bystanders_serve())
                    await scene.bystanders_serve()
                    if not faults.hits:  # on a slow machine it may come late
                        await scene.use_hurt(ATTEMPT)
                if not faults.hits:
                    continue
                struck.add(seam)
                await scene.bystanders_serve()
                problems += [f"{seam}: {lost}" for lost in scene.lost]
                scene.lost.clear()
                scene.daemon._on_network("network")
                for name in HURT:
                    if not await until_well(functools.partial(scene.echo, name)):
                        problems.append(f"{seam}: {name} does not serve again")
    assert problems == [], "\n".join([*problems, *map(str, events.last)])
    assert scene.echoes > 6 * len(struck)
    assert len(struck) >= 60, sorted(map(str, struck))


async def test_a_seam_of_one_service_is_no_tunnels_business(events, log_in, tmp_path):
    struck, problems = set(), []
    scene = Scene(tmp_path)
    faults = Faults([*filter(_is_of_service, find_seams())], scene.concerns_services)
    async with world() as where:
        with faults:
            async with scene.running(*where, hurt=False):
                assert await until_well(scene.use_services)
            for seam in faults.in_turn():
                async with scene.running(*where, hurt=False):
                    with faults.raising(seam):
                        if not await until_well(functools.partial(scene.echo, "good")):
                            problems.append(f"{seam}: no tunnel serves")
                        with suppress(*FAILURES):
                            async with asyncio.timeout(1.0):
                                await scene.use_services()
                        await scene.bystanders_serve()
                    if not faults.hits:
                        continue
                    struck.add(seam)
                    problems += [f"{seam}: {lost}" for lost in scene.lost]
                    scene.lost.clear()
                    if not await until_well(scene.use_services):
                        problems.append(f"{seam}: the services do not serve again")
    assert problems == [], "\n".join([*problems, *map(str, events.last)])
    assert len(struck) >= 20, sorted(map(str, struck))
