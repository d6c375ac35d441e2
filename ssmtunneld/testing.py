"""Pytest fixtures: the AWS side of Session Manager on loopback.

Put ``pytest_plugins = ["ssmtunneld.testing"]`` into a ``conftest.py`` and ask for
``ssm_emulator``. It runs in a thread of its own, so that tests of blocking code (boto3,
subprocesses) work as well as asynchronous ones. See docs/testing.md.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from hashlib import sha256
from typing import Any, Final, Self, TypeVar

import pytest
from typing_extensions import override

from ssmtunneld.base.loop_thread import LoopThread
from ssmtunneld.base.secret import Secret
from ssmtunneld.emulator.access import Decision
from ssmtunneld.emulator.callers import is_identity
from ssmtunneld.emulator.server import Emulator
from ssmtunneld.emulator.settings import EmulatorSettings, Node, Pace

ACCESS_KEY: Final = "AKIAEMULATOR00000000"
SECRET_KEY: Final = "emulator-secret-key"  # noqa: S105 - known to everybody
REGION: Final = "eu-west-1"
ACCOUNT: Final = "123456789012"
"""The account of every caller."""

# Turns of the loop in which what was due happens: a timer wakes a task, which may end a
# session, which wakes others. Few are needed; more cost nothing.
_TURNS: Final = 20

_T = TypeVar("_T")


class EmulatorThread:
    """An emulator on its own loop in its own thread; a context manager.

    Every method can be called from any thread but the emulator's, and blocks until the
    emulator has done its part (milliseconds). The default settings send without pacing,
    know the keys in `environment`, and are otherwise those of `EmulatorSettings`.
    """

    def __init__(self, settings: EmulatorSettings | None = None) -> None:
        self._settings = settings or EmulatorSettings(pace=Pace.NONE)
        if self._settings.secret_key is None:
            self._settings = replace(
                self._settings, access_key=ACCESS_KEY, secret_key=Secret(SECRET_KEY)
            )
        self._identities = dict(self._settings.identities)
        self._ahead = 0.0
        wall_clock = self._settings.wall_clock
        self._settings = replace(
            self._settings,
            identities=self._identities,
            wall_clock=lambda: wall_clock() + timedelta(seconds=self._ahead),
        )
        self._thread = LoopThread(
            self._serve(),
            name="ssm-emulator",
            loop_factory=lambda: _ShiftedLoop(self),
        )
        self._emulator: Emulator | None = None

    def __enter__(self) -> Self:
        """Listen.

        Raises:
            ConfigError: A setting is not acceptable.
            AddressInUse: The address cannot be bound.
        """
        self._emulator = self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End every session and stop listening; a defect of the emulator is raised."""
        self._thread.stop()

    @property
    def endpoint_url(self) -> str:
        """The ``endpoint_url`` of ``ssm`` for boto3."""
        return "" if self._emulator is None else self._emulator.endpoint_url

    @property
    def environment(self) -> dict[str, str]:
        """Environment variables that point any AWS client at the emulator."""
        return self._environment(self._settings.access_key)

    def identity(
        self, name: str, policy: Mapping[str, Any] | None = None
    ) -> dict[str, str]:
        """Return the environment of another caller: the IAM user ``name``.

        Args:
            name: Letters, digits and ``+=,.@_-``; the same name is the same user.
            policy: What they may do; None is everything.

        Raises:
            ValueError: No user can have this name.
            ConfigError: The policy cannot be read.
        """
        arn = f"arn:aws:iam::{ACCOUNT}:user/{name}"
        if not is_identity(arn):
            raise ValueError(f"{name!r} is not the name of an IAM user")
        key = f"AKIA{sha256(name.encode()).hexdigest()[:16].upper()}"

        def introduce(emulator: Emulator) -> None:
            self._identities[key] = arn
            emulator.permissions.set(key, policy)

        self._call(introduce)
        return self._environment(key)

    def _environment(self, access_key: str) -> dict[str, str]:
        secret = self._settings.secret_key
        assert secret is not None
        return {
            "AWS_ENDPOINT_URL_SSM": self.endpoint_url,
            "AWS_ENDPOINT_URL_EC2_INSTANCE_CONNECT": self.endpoint_url,
            "AWS_ACCESS_KEY_ID": access_key,
            "AWS_SECRET_ACCESS_KEY": secret.reveal(),
            "AWS_REGION": REGION,
            "AWS_DEFAULT_REGION": REGION,
            # Neither a profile nor the metadata service of the machine may interfere.
            "AWS_CONFIG_FILE": "/dev/null",
            "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def set_faults(self, *specs: str) -> None:
        """Put ``specs`` in the place of all faults in force.

        Raises:
            ConfigError: A specification cannot be read; nothing has changed.
        """
        self._call(lambda emulator: emulator.admin.change([*specs], replace=True))

    def add_faults(self, *specs: str) -> None:
        """Add ``specs`` to the faults in force; actions among them happen now.

        Raises:
            ConfigError: A specification cannot be read; nothing has changed.
        """
        self._call(lambda emulator: emulator.admin.change([*specs], replace=False))

    def clear_faults(self) -> None:
        """Return to perfect health, except for agents that were stopped."""
        self._call(lambda emulator: emulator.faults.clear())

    def stop_agent(self, target: str) -> None:
        """Take ``target`` away, as if it were switched off.

        Its sessions end, and new ones are refused with TargetNotConnected, until
        `start_agent`: changes of faults do not bring it back.

        Raises:
            ConfigError: It is not an id of a target.
        """

        def stop(emulator: Emulator) -> None:
            emulator.faults.take_away(target)
            for session in emulator.sessions:
                if session.request.target == target:
                    session.end("The agent is gone.")

        self._call(stop)

    def start_agent(self, target: str) -> None:
        """Bring ``target`` back after `stop_agent`; without effect if it is there."""
        self._call(lambda emulator: emulator.faults.bring_back(target))

    def stop_instance(self, target: str) -> None:
        """Stop an instance as a person does in EC2's console; its sessions end.

        It is ``stopping`` for half of the settings' ``boot_time``, then ``stopped``.
        """
        self._call(lambda emulator: emulator.sessions.power.stop(target))

    def start_instance(self, target: str) -> None:
        """Start an instance as a person does; its agent follows after ``boot_time``.

        Raises:
            PowerError: It is being stopped.
        """
        self._call(lambda emulator: emulator.sessions.power.start(target))

    def instance(self, target: str) -> dict[str, Any]:
        """Return ``state``, ``tags``, ``starts`` and ``stops`` of an instance."""
        return self._call(lambda emulator: emulator.sessions.power.describe(target))

    def state(self) -> dict[str, Any]:
        """Return what ``GET /_emulator/state`` answers."""
        return self._call(lambda emulator: emulator.state())

    def sessions(self) -> list[dict[str, Any]]:
        """Return the sessions of `state`, the oldest first."""
        sessions: list[dict[str, Any]] = self.state()["sessions"]
        return sessions

    def close_session(self, session_id: str, output: str = "") -> None:
        """End a session as the service does, with ``output`` for its client.

        Raises:
            KeyError: There is no such session.
        """
        self._call(lambda emulator: emulator.close_session(session_id, output))

    def access_requests(self) -> list[dict[str, Any]]:
        """Return the requests for node access, the oldest first, without any key."""
        requests: list[dict[str, Any]] = self.state()["access_requests"]
        return requests

    def approve(self, request_id: str | None = None) -> str:
        """Approve a request for node access; return its id.

        Args:
            request_id: None is the latest one.

        Raises:
            KeyError: There is no such request.
        """
        return self._decide(Decision.APPROVE, request_id)

    def reject(self, request_id: str | None = None) -> str:
        """Reject a request, as `approve`."""
        return self._decide(Decision.REJECT, request_id)

    def revoke(self, request_id: str | None = None) -> str:
        """Revoke what was approved, as `approve`."""
        return self._decide(Decision.REVOKE, request_id)

    def _decide(self, decision: Decision, request_id: str | None) -> str:
        return self._call(lambda e: e.access.decide(decision, request_id))

    def set_policy(
        self, document: Mapping[str, Any] | None, *, access_key: str = ""
    ) -> None:
        """Give callers an IAM policy; None allows everything.

        Args:
            document: The policy.
            access_key: Whose it is; empty for everybody who has none of their own.

        Raises:
            ConfigError: It cannot be read; nothing has changed.
        """
        self._call(lambda emulator: emulator.permissions.set(access_key, document))

    def deny(self, *actions: str, access_key: str | None = None) -> None:
        """Deny actions such as ``ssm:ResumeSession``, besides what policies say.

        Args:
            actions: With wildcards, if need be.
            access_key: Whom; None is everybody.
        """
        self._call(lambda e: e.permissions.deny([*actions], access_key))

    def allow_again(self) -> None:
        """Forget what `deny` has denied."""
        self._call(lambda emulator: emulator.permissions.forgive())

    def cut_websockets(self) -> None:
        """Reset the TCP connection of every client."""
        self._call(lambda emulator: emulator.cut_websockets())

    def advance(self, seconds: float) -> None:
        """Let that much time pass on the service's side, at once.

        What was due by then happens: sessions idle out or reach their greatest age,
        connections are closed by the clock, agents repeat. The clients' time, by which
        they sign and keep alive, stands still meanwhile: to them it is as if their
        machine had slept.

        Raises:
            ValueError: Time does not run backwards.
        """
        if seconds < 0:
            raise ValueError(f"{seconds} s: time does not run backwards")

        async def pass_on() -> None:
            self._ahead += seconds
            for _ in range(_TURNS):
                await asyncio.sleep(0)

        self._thread.call(pass_on())

    def _call(self, what: Callable[[Emulator], _T]) -> _T:
        async def on_loop() -> _T:
            assert self._emulator is not None
            return what(self._emulator)

        return self._thread.call(on_loop())

    @asynccontextmanager
    async def _serve(self) -> AsyncIterator[Emulator]:
        async with Emulator(self._settings) as emulator:
            yield emulator


class _ShiftedLoop(asyncio.SelectorEventLoop):
    """A loop whose time is ahead of the machine's by what has been advanced."""

    def __init__(self, thread: EmulatorThread) -> None:
        self._thread = thread
        super().__init__()

    @override
    def time(self) -> float:
        return super().time() + self._thread._ahead  # noqa: SLF001 - part of it


@pytest.fixture
def emulator_settings() -> EmulatorSettings | None:
    """Override this fixture to choose other settings for `ssm_emulator`."""
    return None


@pytest.fixture
def ssm_targets() -> dict[str, str]:
    """The instances that `ssm_emulator` knows, by name; override it for other ones.

    Each has its name as computer name, and as the tag ``Name``. Other ids do not exist,
    except those that the settings name; without any, every well-formed id is online.
    """
    return {
        "web-1": "i-0000000000000aaa1",
        "web-2": "i-0000000000000aaa2",
        "db-1": "i-0000000000000bbb1",
    }


@pytest.fixture
def ssm_emulator(
    emulator_settings: EmulatorSettings | None, ssm_targets: dict[str, str]
) -> Iterator[EmulatorThread]:
    """Yield a running emulator; every session ends with the test."""
    settings = emulator_settings or EmulatorSettings(pace=Pace.NONE)
    nodes = {
        target: Node(name=name, tags={"Name": name})
        for name, target in ssm_targets.items()
    }
    settings = replace(settings, nodes={**nodes, **settings.nodes})
    with EmulatorThread(settings) as emulator:
        yield emulator


@pytest.fixture
def ssm_environment(
    ssm_emulator: EmulatorThread, monkeypatch: pytest.MonkeyPatch
) -> dict[str, str]:
    """Point this process, and every process that it starts, at `ssm_emulator`."""
    environment = ssm_emulator.environment
    for name in [n for n in os.environ if n.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return environment


@pytest.fixture
def ssm_identity(ssm_emulator: EmulatorThread) -> Callable[..., dict[str, str]]:
    """Return a function that makes callers: `EmulatorThread.identity`."""
    return ssm_emulator.identity


@pytest.fixture
def ssm_deny(ssm_emulator: EmulatorThread) -> Callable[..., None]:
    """Return a function that denies actions: `EmulatorThread.deny`."""
    return ssm_emulator.deny
