"""The walk along one tunnel, from the credentials to the destination."""

from __future__ import annotations

import asyncio
import os
import re
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from random import Random
from typing import TYPE_CHECKING, Final, TypeVar
from urllib.parse import urlsplit

from ssmtunneld.aws.api.boundary import note_defect
from ssmtunneld.aws.api.endpoints import is_loopback_host
from ssmtunneld.aws.api.errors import CallContext, cure_of
from ssmtunneld.aws.api.network import tls_context
from ssmtunneld.aws.api.port import Control, Grant, Identity, SessionRequest
from ssmtunneld.aws.bastions import find_instance, may_start, may_stop
from ssmtunneld.aws.ssm import SsmControl
from ssmtunneld.aws.targets.resolver import Resolver
from ssmtunneld.config.session_documents import REMOTE_HOST_DOCUMENT
from ssmtunneld.config.targets import FixedTarget, bastion_target, parse_target
from ssmtunneld.doctor import network, session
from ssmtunneld.doctor.report import (
    HOPS,
    NOT_REACHED,
    Broken,
    Doubtful,
    Finding,
    Skipped,
    Verdict,
)
from ssmtunneld.errors import (
    AccessDenied,
    AwsError,
    CredentialsUnusable,
    ServiceUnavailable,
    SsmtunneldError,
    TargetNotConnected,
    Throttled,
    TunnelError,
)
from ssmtunneld.sessions.backoff import persist
from ssmtunneld.sessions.reason import session_reason

if TYPE_CHECKING:
    import ssl
    from collections.abc import Awaitable, Callable

    from ssmtunneld.aws.client import AwsClient, AwsLocation
    from ssmtunneld.base.log import EventLog
    from ssmtunneld.config import TunnelSettings

_Answer = TypeVar("_Answer")

REMOTE_HOST_SINCE: Final = (3, 1, 1374, 0)
"""The agent that AWS documents as the first one for remote hosts."""
SLOW_ROUND_TRIP: Final = 0.5
"""Seconds: more than to the other side of the earth and back, by way of a region."""
SLOW_RATE: Final = 100_000
"""Bytes a second: a tenth of what an agent sends at its own pace."""
TERMINATE_TIMEOUT: Final = 5.0
"""Seconds for ending the session that was tried."""

_OPERATION: Final = "Login"
_VERSION: Final = re.compile(r"[0-9]{1,9}(\.[0-9]{1,9}){3}")
_REPORT: Final = (
    "see the log of this command; if nothing there explains it, report it as a defect "
    "of ssmtunneld"
)


@dataclass(frozen=True, slots=True)
class DoctorContext:
    """Dependencies of the doctor.

    Attributes:
        wall_clock: The Unix time in seconds.
        log: Where the layers below say what they do.
        agent_patience: Seconds for the agent's first words, and for an answer of its.
        patience: Seconds for the destination's answer, and for the throughput.
        api_patience: Seconds in which passing errors of the API are waited out.
    """

    wall_clock: Callable[[], float]
    log: EventLog
    agent_patience: float = 15.0
    patience: float = 15.0
    api_patience: float = 30.0


async def examine(
    tunnel: TunnelSettings, context: DoctorContext, tell: Callable[[Finding], None]
) -> bool:
    """Walk along ``tunnel``; say whether every hop that was looked at is well.

    A session is started and terminated. Cancelling terminates it as well.

    Args:
        tunnel: The tunnel.
        context: What is used.
        tell: Called with each finding, in the order of ``HOPS``.
    """
    control = SsmControl(Identity.of(tunnel))
    try:
        async with AsyncExitStack() as stack, asyncio.TaskGroup() as tasks:
            walk = _Walk(tunnel, context, control, stack, tasks)
            well = await walk.go(tell)
            await stack.aclose()
            return well
    finally:
        await control.close()


class _Walk:
    """Results so far, and the next hop."""

    def __init__(
        self,
        tunnel: TunnelSettings,
        context: DoctorContext,
        control: SsmControl,
        stack: AsyncExitStack,
        tasks: asyncio.TaskGroup,
    ) -> None:
        self._tunnel = tunnel
        self._walk_context = context
        self._control = control
        self._stack = stack
        self._tasks = tasks
        self._line = session.DoctorChannel(lambda: int(context.wall_clock() * 1000))
        self._place: AwsLocation | None = None
        self._unplaced: AwsError | None = None
        self._endpoints: tuple[network.Endpoint, ...] = ()
        self._target = ""
        self._asleep = False
        self._agent = ""
        self._grant: Grant | None = None
        self._random = Random()  # noqa: S311 - jitter, not secrets

    async def go(self, tell: Callable[[Finding], None]) -> bool:
        """Look at every hop until one is broken; say whether none is."""
        looks: dict[str, Callable[[], Awaitable[str]]] = {
            "credentials": self._see_credentials,
            "region": self._see_region,
            "proxy": self._see_proxy,
            "dns": self._see_names,
            "tcp": self._see_connections,
            "tls": self._see_certificates,
            "clock": self._see_clock,
            "identity": self._see_identity,
            "target": self._see_target,
            "agent": self._see_agent,
            "permission": self._see_permission,
            "upgrade": self._see_upgrade,
            "handshake": self._see_handshake,
            "destination": self._see_destination,
            "round trip": self._see_time,
            "throughput": self._see_throughput,
        }
        broken = ""
        for hop in HOPS:
            if broken:
                text = f"{NOT_REACHED}: failed at {broken}"
                tell(Finding(hop, Verdict.SKIP, text))
                continue
            finding = await _look(hop, looks[hop])
            tell(finding)
            if finding.verdict is Verdict.FAIL:
                broken = finding.hop
        return not broken

    async def _see_credentials(self) -> str:
        try:
            profile, key = await self._control.ask(self._load_keys)
        except CredentialsUnusable as error:
            raise Broken.by(error) from None
        except AwsError as error:
            if self._place is not None:
                # A role or a login that needs the network, which is looked at next.
                raise Skipped(str(error)) from None
            self._unplaced = error
            raise Skipped("not tested without a region") from None
        if not key:
            raise Broken(
                "there are no AWS credentials", self._cure_of("NoCredentialsError")
            )
        whose = f"profile {profile}" if profile else "the default credentials"
        return f"key {key[:4]}...{key[-4:]} of {whose}"

    def _load_keys(self, account: AwsClient) -> tuple[str, str]:
        """Return the profile, and the id of its key; empty if it has none."""
        try:
            keys, self._place = account.keys(_OPERATION)
        except AwsError:
            self._place = account.place
            raise
        return account.profile, "" if keys is None else keys.access_key

    async def _see_region(self) -> str:
        if self._unplaced is not None:
            raise Broken.by(self._unplaced)
        place = self._known_place
        self._endpoints = network.endpoints(
            place,
            fips=_is_on("AWS_USE_FIPS_ENDPOINT"),
            dual_stack=_is_on("AWS_USE_DUALSTACK_ENDPOINT"),
            proxy=Identity.of(self._tunnel).proxy,
        )
        return f"{place.region}, {' and '.join(map(str, self._endpoints))}"

    @property
    def _known_place(self) -> AwsLocation:
        assert self._place is not None, "asked before the region"
        return self._place

    def _context(self) -> ssl.SSLContext:
        return tls_context(self._control.ca_bundle)

    async def _see_proxy(self) -> str:
        return await asyncio.to_thread(network.check_proxies, self._endpoints)

    async def _see_names(self) -> str:
        return await asyncio.to_thread(network.resolve, self._endpoints)

    async def _see_connections(self) -> str:
        return await asyncio.to_thread(network.connect, self._endpoints)

    async def _see_certificates(self) -> str:
        return await asyncio.to_thread(
            network.check_certificates, self._endpoints, self._context
        )

    async def _see_clock(self) -> str:
        return await asyncio.to_thread(
            network.check_clock,
            self._endpoints[0],
            self._context,
            self._walk_context.wall_clock,
        )

    async def _see_identity(self) -> str:
        try:
            await self._control.ask(lambda account: account.keys(_OPERATION))
        except AwsError as error:
            raise Broken.by(error) from None
        host = urlsplit(self._known_place.ssm_endpoint).hostname or ""
        if is_loopback_host(host) and "AWS_ENDPOINT_URL_STS" not in os.environ:
            raise Skipped("AWS_ENDPOINT_URL_STS does not name an emulator's STS")
        try:
            return await self._control.ask(_who)
        except (ServiceUnavailable, Throttled) as error:
            raise Skipped(f"STS does not answer: {error}") from None
        except AwsError as error:
            raise Broken.by(error) from None

    async def _see_target(self) -> str:
        try:
            if self._tunnel.start_target:
                await self._see_bastion()
            self._target = await self._persist(self._find_target)
            status, self._agent = await self._persist(
                lambda: self._control.ask(self._ask_for_status)
            )
        except AccessDenied as error:
            if self._target:
                raise Skipped(f"{self._target}; {error}") from None
            raise Broken.by(error) from None
        except AwsError as error:
            raise Broken.by(error) from None
        if status not in {"Online", "connected"}:
            where = self._known_place.region
            text = f"{self._target} is not online in {where} ({status})"
            raise Broken(text, self._cure_of("TargetNotConnected"))
        await self._ask_about_silence()
        await self._ask_about_power(self._target)
        return f"{self._target} is online"

    async def _see_bastion(self) -> None:
        """Look whether the target is asleep, and may be started then."""
        wanted = bastion_target(self._tunnel.target)
        assert wanted is not None, "refused with the configuration"
        found = await self._persist(
            lambda: self._control.ask(partial(find_instance, target=wanted))
        )
        if found.state in {"pending", "running"}:
            return
        self._target, self._asleep = found.id, True
        try:
            await self._persist(
                lambda: self._control.ask(partial(may_start, instance=found.id))
            )
        except AccessDenied as error:
            raise Broken.by(error) from None
        await self._ask_about_stop(found.id)
        raise Skipped(
            f"{found.id} is {found.state}; a connection starts it, and you may do that"
        )

    async def _ask_about_power(self, instance: str) -> None:
        """Find out whether an instance that runs may be started, and stopped again."""
        if self._tunnel.start_target:
            await self._ask_dry(may_start, instance, "started when it is stopped")
            await self._ask_about_stop(instance)

    async def _ask_about_stop(self, instance: str) -> None:
        if self._tunnel.stop_target_after is not None:
            await self._ask_dry(may_stop, instance, "stopped after connections")

    async def _ask_dry(
        self, may: Callable[[AwsClient, str], None], instance: str, what: str
    ) -> None:
        try:
            await self._persist(
                lambda: self._control.ask(lambda account: may(account, instance))
            )
        except AccessDenied as error:
            text = f"{instance} may not be {what}: {error}"
            raise Doubtful(text, error.advice) from None

    async def _ask_about_silence(self) -> None:
        """Find out whether a daemon may ask about an agent that says nothing."""
        try:
            await self._control.is_connected(self._target)
        except AccessDenied as error:
            text = (
                f"{self._target} is online, but AWS may not be asked about it when its "
                "agent stops; then connections are reset after stall_timeout "
                f"({self._tunnel.stall_timeout:g} s) only"
            )
            raise Doubtful(text, error.advice) from None
        except AwsError:
            pass  # it says nothing against the tunnel

    def _cure_of(self, cause: str) -> str:
        """Return what the table of causes says of what was found out here."""
        place = self._place
        during = CallContext(
            _OPERATION,
            "" if place is None else place.region,
            renewal="",
            profile=self._tunnel.profile or "",
            target=self._target,
        )
        return cure_of(cause, during)

    async def _find_target(self) -> str:
        wanted = parse_target(self._tunnel.target)
        if isinstance(wanted, FixedTarget):
            return wanted.id
        resolver = Resolver(self._control)
        found = await resolver.find(wanted)
        if not found.online:
            raise await resolver.explain(wanted, found)
        return found.online[0].id

    def _ask_for_status(self, account: AwsClient) -> tuple[str, str]:
        """Return what the service says of the target, and its agent's version."""
        if self._target.startswith("ecs:"):
            answer = account.call("GetConnectionStatus", Target=self._target)
            return answer.text("Status"), ""
        chosen = [{"Key": "InstanceIds", "Values": [self._target]}]
        answer = account.call("DescribeInstanceInformation", Filters=chosen)
        for node in answer.structures("InstanceInformationList"):
            return node.text("PingStatus"), node.text("AgentVersion")
        return "Systems Manager does not know it", ""

    async def _see_agent(self) -> str:
        if not _VERSION.fullmatch(self._agent):
            raise Skipped("its version is not known yet")
        version = tuple(map(int, self._agent.split(".")))
        remote = self._tunnel.session_document == REMOTE_HOST_DOCUMENT
        if remote and version < REMOTE_HOST_SINCE:
            least = ".".join(map(str, REMOTE_HOST_SINCE))
            text = f"agent {self._agent} is too old for a remote host"
            raise Broken(
                text, f"update the SSM agent of the target to {least} or newer"
            )
        return self._agent

    async def _persist(self, attempt: Callable[[], Awaitable[_Answer]]) -> _Answer:
        """Call the API; errors that pass are waited out."""
        until = asyncio.get_running_loop().time() + self._walk_context.api_patience
        return await persist(attempt, self._random, until)

    async def _see_permission(self) -> str:
        tunnel = self._tunnel
        if tunnel.is_dynamic:
            raise Skipped("not tested: clients name the destination")
        if self._asleep:
            raise Skipped("not tested: the target is asleep")
        if tunnel.access == "request":
            # The keys of an approved request are in the daemon, and only there.
            raise Skipped(
                "not tested: it takes an approved request; ssmtunneld status has its "
                "state"
            )
        request = SessionRequest.port_forward(
            self._target,
            tunnel.port,
            tunnel.host,
            cluster=tunnel.cluster,
            document=tunnel.session_document,
            parameters=tunnel.parameters,
            reason=session_reason(tunnel),
        )
        try:
            grant = await self._persist(lambda: self._control.start(request))
        except TargetNotConnected as error:
            raise Broken.by(error, "target") from None
        except AwsError as error:
            raise Broken.by(error) from None
        self._grant = grant
        self._stack.push_async_callback(_terminate, self._control, grant.session_id)
        return f"StartSession is allowed ({tunnel.session_document})"

    async def _see_upgrade(self) -> str:
        grant = self._known_grant
        link = await session.upgrade(
            self._control,
            grant,
            self._control.trust,
            self._walk_context.log,
            Identity.of(self._tunnel).proxy,
        )
        running = self._tasks.create_task(self._line.run(link, grant), name="line")
        self._stack.callback(running.cancel)
        return "the data channel is open"

    @property
    def _known_grant(self) -> Grant:
        if self._grant is None:
            raise Skipped("no session was started")
        return self._grant

    async def _see_handshake(self) -> str:
        _ = self._known_grant
        return await self._line.shake_hands(self._walk_context.agent_patience)

    async def _see_destination(self) -> str:
        _ = self._known_grant
        return await self._line.reach(self._tunnel, self._walk_context.patience)

    async def _see_time(self) -> str:
        _ = self._known_grant
        return await self._line.time_round_trip(
            self._walk_context.agent_patience, SLOW_ROUND_TRIP
        )

    async def _see_throughput(self) -> str:
        _ = self._known_grant
        return await self._line.measure_throughput(
            self._walk_context.patience, SLOW_RATE
        )


async def _look(hop: str, look: Callable[[], Awaitable[str]]) -> Finding:
    try:
        return Finding(hop, Verdict.OK, await look())
    except Skipped as skipped:
        return Finding(hop, Verdict.SKIP, skipped.text)
    except Doubtful as doubtful:
        return Finding(hop, Verdict.WARN, doubtful.text, doubtful.cure)
    except Broken as broken:
        cure = broken.cure or _REPORT
        return Finding(broken.hop or hop, Verdict.FAIL, broken.text, cure)
    except SsmtunneldError as error:
        return Finding(hop, Verdict.FAIL, str(error), error.advice or _REPORT)
    except Exception as error:  # noqa: BLE001 - each hop is a compartment (design D18)
        note_defect(error)
        text = f"this test failed unexpectedly ({type(error).__name__})"
        return Finding(hop, Verdict.FAIL, text, _REPORT)


async def _terminate(control: Control, session_id: str) -> None:
    try:
        async with asyncio.timeout(TERMINATE_TIMEOUT):
            await control.terminate(session_id)
    except (TunnelError, TimeoutError):
        return  # the service ends it when it has been idle


def _who(account: AwsClient) -> str:
    arn = account.call_service("sts", "GetCallerIdentity").text("Arn")
    return arn or "STS answers, but does not say who this is"


def _is_on(variable: str) -> bool:
    return os.environ.get(variable, "").lower() == "true"
