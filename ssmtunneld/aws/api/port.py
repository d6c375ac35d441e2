"""The port to AWS: the types and calls that the floors above use."""

from __future__ import annotations

import shlex
from dataclasses import field
from typing import TYPE_CHECKING, Protocol

from typing_extensions import override

from ssmtunneld.aws.api.endpoints import is_loopback_host, without_query
from ssmtunneld.aws.api.network import Network
from ssmtunneld.base.record import Record
from ssmtunneld.config.fields import REASON_LIMIT
from ssmtunneld.config.session_documents import (
    PORT_DOCUMENT,
    REMOTE_HOST_DOCUMENT,
    takes_destination,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from ssmtunneld.base.secret import Secret
    from ssmtunneld.config import TunnelSettings


class Identity(Record):
    """Credentials, region and endpoints of AWS calls; tunnels can share one."""

    profile: str | None = None
    """A profile of the AWS configuration; None is ``AWS_PROFILE`` or the default."""
    region: str | None = None
    """None is ``AWS_REGION``, ``AWS_DEFAULT_REGION``, the profile's, the instance's."""
    endpoint_url: str | None = None
    """Instead of the SSM API's public endpoint."""
    ssmmessages_endpoint: str | None = None
    """Instead of the data channel's public one; ``host`` or a URL without a path."""
    ca_bundle: str | None = None
    """A file of trusted certificates, instead of the default ones."""
    proxy: str | None = None
    """A proxy's URL, instead of the environment's; empty for none at all."""
    role_arn: str | None = None
    """A role to assume with the profile's credentials; None is the profile itself."""
    external_id: str | None = None
    """The external id that the role's trust policy asks for."""
    role_session_name: str | None = None
    """Name of the role's sessions; None is ``ssmtunneld-USER``."""
    mfa_serial: str | None = None
    """The device whose codes the role asks for; None if it asks for none."""
    tunnel: str = field(default="", compare=False)
    """A tunnel that acts as this identity, for messages."""

    @classmethod
    def of(cls, tunnel: TunnelSettings) -> Identity:
        """Return the identity with which a tunnel calls AWS."""
        return cls(
            profile=tunnel.profile,
            region=tunnel.region,
            endpoint_url=tunnel.endpoint_url,
            ssmmessages_endpoint=tunnel.ssmmessages_endpoint,
            ca_bundle=str(tunnel.ca_bundle) if tunnel.ca_bundle else None,
            proxy="" if tunnel.proxy is False else tunnel.proxy,
            role_arn=tunnel.role_arn,
            external_id=tunnel.external_id,
            role_session_name=tunnel.role_session_name,
            mfa_serial=tunnel.mfa_serial,
            tunnel=tunnel.name,
        )

    @property
    def name(self) -> str:
        """Profile and role, without what is nobody's business: ``prod/Bastion``."""
        profile = self.profile or "default"
        role = (self.role_arn or "").rpartition("/")[2]
        return f"{profile}/{role}" if role else profile

    @property
    def login_command(self) -> str:
        """The command that asks a human for the code that a role needs."""
        if self.tunnel:
            return f"ssmtunneld login {self.tunnel}"
        if self.mfa_serial is not None:
            return "ssmtunneld login NAME, of a tunnel with this role"
        return f"ssmtunneld login --profile {shlex.quote(self.profile or 'default')}"

    @property
    def network(self) -> Network:
        """Certificates and proxy on the way to AWS."""
        return Network(self.ca_bundle, self.proxy)


class SessionRequest(Record):
    """Parameters of StartSession."""

    target: str
    document: str
    parameters: Mapping[str, tuple[str, ...]]
    reason: str = ""
    """Shown in the account's session history; empty for none."""
    cluster: str = ""
    """An EKS cluster whose endpoint becomes the parameter ``host``; empty for none."""

    @classmethod
    def port_forward(
        cls,
        target: str,
        port: int | None = None,
        host: str | None = None,
        *,
        cluster: str | None = None,
        document: str | None = None,
        parameters: Mapping[str, str | Sequence[str]] | None = None,
        reason: str = "",
    ) -> SessionRequest:
        """Ask for a session that leads to ``port`` of ``host``, seen from ``target``.

        Args:
            target: A target id (protocol 1.3).
            port: The destination's port; None where a custom document fixes it.
            host: The destination; None is the target itself, or ``cluster``.
            cluster: An EKS cluster, which is looked up when the session starts.
            document: A session document by name or ARN; None chooses one of AWS's own.
                Another than those is not told host and port: ``parameters`` has what it
                takes.
            parameters: More document parameters; they win over ours.
            reason: For the session history; cut at 256 characters, AWS's limit.

        Raises:
            ValueError: Neither a port nor a document was given.
        """
        if host is not None and document in {None, PORT_DOCUMENT}:
            # Recent agents refuse loopback addresses in the remote-host document, and
            # the plain document means the target itself (users.md, pain 25).
            host = None if is_loopback_host(host) else host
        if document is None:
            if port is None:
                raise ValueError("a port is needed, unless a document fixes it")
            own = host is None and cluster is None
            document = PORT_DOCUMENT if own else REMOTE_HOST_DOCUMENT
        given: dict[str, tuple[str, ...]] = {}
        told = takes_destination(document)
        if told and host is not None:
            given["host"] = (host,)
        if told and port is not None:
            given["portNumber"] = (str(port),)
        if document in {PORT_DOCUMENT, REMOTE_HOST_DOCUMENT}:
            # Only echoed back to us: the listener is our own (protocol 1.2).
            given["localPortNumber"] = ("0",)
        for name, value in (parameters or {}).items():
            given[name] = (value,) if isinstance(value, str) else tuple(value)
        return cls(target, document, given, reason[:REASON_LIMIT], cluster or "")


class Grant(Record):
    """The right to open a session's data channel, now: the token is short-lived."""

    session_id: str
    token: Secret
    stream_url: str
    """The URL to dial, byte for byte: overridden where configured, its host checked."""

    @override
    def __repr__(self) -> str:
        # The query names the service's cell, which is nobody's business (protocol 1.6).
        url = without_query(self.stream_url)
        return f"Grant(session_id={self.session_id!r}, stream_url={url!r})"


class ActiveSession(Record):
    """A session that the service holds for someone."""

    session_id: str
    target: str
    owner: str
    reason: str
    status: str
    """``Connected``, ``Connecting``, ``Disconnected``, ``Terminating``, ..."""
    document: str
    started_at: float = field(default=0.0)
    """Unix time in seconds; 0 if the service did not say."""
    max_duration: float | None = None
    """Seconds from ``started_at`` to the forced end; None if there is no limit."""


class Control(Protocol):
    """The control plane, and the keys to the data channel, for one identity.

    Every method can be called by any number of tasks at once. All of them raise
    ``AwsError`` in the kinds that ``errors.py`` lists; the error's ``recovery`` and
    ``advice`` say what follows. On ``resume``, a ``Throttled``, ``ServiceUnavailable``
    or other ``AwsError`` says nothing about the session itself: only ``SessionGone``
    means that it is over.
    """

    async def start(
        self, request: SessionRequest, *, answered: Callable[[], None] | None = None
    ) -> Grant:
        """Start a session.

        Cancelling is safe: a session that AWS grants afterwards is terminated.

        Args:
            request: What to ask for.
            answered: Called on the loop, once, when nothing of this call can reach the
                service any more: it was answered, has failed, or is never made. After a
                cancellation that can be later than the return.
        """
        ...

    async def resume(self, session_id: str) -> Grant:
        """Get a new token, and perhaps a new URL, for a session that lost its link.

        Cancelling is safe; the session stays as it is.

        Raises:
            SessionGone: There is nothing to resume.
        """
        ...

    async def terminate(self, session_id: str) -> None:
        """End a session; one that is gone already is fine.

        Cancelling only stops the waiting: the request is still sent.
        """
        ...

    async def describe(
        self, *, owner: str | None = None, target: str | None = None
    ) -> list[ActiveSession]:
        """List the active sessions, all of them or those of one owner or target.

        Cancelling is safe.
        """
        ...

    async def is_connected(self, target: str) -> bool:
        """Say whether the service hears of the target's agent (GetConnectionStatus).

        It takes half a minute to notice that one has stopped. An answer can be a few
        seconds old. Cancelling is safe.

        Raises:
            AccessDenied: The caller may not ask.
        """
        ...

    async def sign_upgrade(self, url: str) -> Mapping[str, str]:
        """Return the headers that sign the websocket's upgrade request to ``url``.

        Empty if there are no credentials at all, or if ``url`` is signed already.
        Cancelling is safe.

        Raises:
            CredentialsUnusable: There are credentials, but they cannot be refreshed.
        """
        ...

    def check_stream_url(self, url: str) -> None:
        """Make sure that a session's token may be sent to ``url`` (design D1).

        Raises:
            RequestRejected: It may not.
        """
        ...

    async def close(self) -> None:
        """Wait a bounded time for clean-up that is under way, then release everything.

        Idempotent. Nothing else may be called afterwards.
        """
        ...
