"""Every error of the package, grouped by who must act.

::

    SsmtunneldError
    ├── LocalProtocolError        our own code broke a rule: a bug, please report it
    ├── ConfigError               the configuration file must be changed
    │   └── ConfigMissing             there is none
    ├── AddressInUse              another process holds a local address
    ├── AddressForbidden          this user must not listen on a local address
    ├── InheritedSocketRefused    a socket unit lets in more than the configuration
    ├── UnknownTunnel             the daemon has no tunnel of that name
    ├── TunnelDisabled            the file says that a tunnel is not to run
    ├── UnknownConnection         the daemon has no connection of that name
    └── TunnelError               something happened to one tunnel; says what follows
        ├── LinkError             the websocket: the session itself can live on
        │   ├── LinkUnreachable       no connection could be made
        │   │   └── LinkUntrusted         its certificate is signed by somebody unknown
        │   ├── LinkLost              closed, reset or cut
        │   ├── LinkRefused           the upgrade was answered with an HTTP error
        │   └── PeerUnresponsive      nothing was heard for too long
        ├── SessionError          the session is over; another can be started
        │   ├── RemoteProtocolError   the peer broke the protocol
        │   ├── HandshakeFailed       the agent and we could not agree
        │   ├── AgentUnresponsive     the agent says nothing, and nothing speaks for it
        │   ├── ChannelClosed         the service said channel_closed
        │   │   └── DestinationForbidden  the agent forwards to no such address
        │   ├── SessionGone           ResumeSession says there is nothing to resume
        │   ├── TrialLost             it was lost in a trial of a larger message
        │   └── Unforeseen            something of ours broke: a bug, please report it
        ├── TargetAsleep          the instance is stopped, or on its way up
        ├── AccessMissing         nobody has asked for the node, or it is not approved
        ├── AwsError              the control plane said no
        │   ├── Throttled             too many calls, or a quota
        │   ├── ServiceUnavailable    the service failed, or could not be reached
        │   │   └── ServiceUntrusted      its certificate is signed by somebody unknown
        │   ├── TargetNotConnected    no agent answers for the target
        │   │   └── TargetNotFound        nothing online matches it
        │   │       └── TargetOffline         something does that is not online
        │   ├── AccessDenied          IAM, or a switch, says no
        │   ├── CredentialsUnusable   none, expired, or a human must log in
        │   └── RequestRejected       the request itself is wrong: a setting must change
        └── StreamError           one local connection
            ├── StreamReset           ended without its end of file
            ├── DestinationRefused    the agent could not connect to the destination
            └── NoSessionReady        no session was ready in time

A class says what follows (``recovery``), an instance holds the evidence, ``str()``
makes one sentence of what happened and why, and ``advice`` says what to do about it.
"""

from collections.abc import Iterable, Mapping
from enum import Enum, auto
from errno import EACCES
from typing import Any, ClassVar, Final, TypeVar

from typing_extensions import override

from ssmtunneld.base.foreign import CleanText, clean
from ssmtunneld.base.nearest import nearest
from ssmtunneld.base.sentences import with_advice


class Recovery(Enum):
    """The next step of a session's supervisor (design D11)."""

    RESUME = auto()
    """Keep the session: ask for a new token and reconnect."""
    RESTART = auto()
    """Discard the session and start another."""
    WAIT = auto()
    """Only a human or a change elsewhere helps: retry slowly, say what to do."""
    STOP = auto()
    """The configuration of this tunnel is wrong: retrying cannot help."""


NAME_AUTHORITY: Final = (
    "if a gateway inspects TLS here, name a file with its certificate authority in "
    "AWS_CA_BUNDLE, or in ca_bundle of the configuration"
)
"""Advice for a certificate that is not trusted."""

LOOK_AT_LIMITS: Final = (
    "another one is started by itself; if they end after the same time, see idle "
    "timeout and maximum duration in Session Manager's preferences, else the log of "
    "the target's SSM agent"
)
"""Advice for sessions that end although nobody here has ended them."""

_NO_WORDS: Final = clean("")


class SsmtunneldError(Exception):
    """Anything that this package raises on purpose.

    It can be copied, and pickled: a pool of processes hands on what its workers raise.
    """

    advice: str = ""
    """Cure for the reader, as one imperative sentence without a full stop."""

    @override
    def __reduce__(self) -> tuple[Any, ...]:
        # Exceptions are made again from ``args``, which few constructors here take.
        return recreate, (type(self), self.args, vars(self))


_ErrorT = TypeVar("_ErrorT", bound=SsmtunneldError)


def recreate(
    kind: type[_ErrorT], arguments: tuple[object, ...], state: Mapping[str, object]
) -> _ErrorT:
    """Return an error by what it holds, without its constructor.

    Args:
        kind: Its class.
        arguments: Its ``args``.
        state: Its attributes.
    """
    error = kind.__new__(kind)
    super(SsmtunneldError, error).__init__(*arguments)
    vars(error).update(state)
    return error


class LocalProtocolError(SsmtunneldError):
    """We were asked for something that the protocol does not allow."""

    advice = "this is a defect of ssmtunneld, please report it"


class ConfigError(SsmtunneldError):
    """The configuration cannot be used.

    Args:
        problems: One line each: ``file:line: key.path: what is wrong``.
    """

    def __init__(self, problems: list[str]) -> None:
        super().__init__(problems)
        self.problems = problems

    @override
    def __str__(self) -> str:
        return "\n".join(self.problems)


class ConfigMissing(ConfigError):
    """There is no configuration file.

    Args:
        words: What is missing.
        cure: What to type instead.
    """

    def __init__(self, words: str, cure: str) -> None:
        super().__init__([with_advice(words, cure)])
        self.args = (words, cure)
        self.words = words
        self.cure = cure


class AddressInUse(SsmtunneldError):
    """A local address cannot be bound.

    Args:
        address: The address as the configuration spells it.
        reason: The operating system's words.
        holder: Who holds it, where that could be found out (``"sshd, pid 812"``).
    """

    def __init__(self, address: str, reason: str, holder: str = "") -> None:
        super().__init__(address, reason, holder)
        self.address = address
        self.reason = reason
        self.holder = holder
        self.advice = (
            f"stop {holder}, or choose another address"
            if holder
            else "choose another address"
        )

    @override
    def __str__(self) -> str:
        held = f" (held by {self.holder})" if self.holder else ""
        return f"cannot listen on {self.address}: {self.reason}{held}"


class AddressForbidden(SsmtunneldError, PermissionError):
    """The system does not let this user listen on a local address.

    Args:
        address: The address as the configuration spells it.
        reason: The operating system's words.
        advice: What to do.
    """

    def __init__(self, address: str, reason: str, advice: str) -> None:
        super().__init__(EACCES, reason)
        self.address = address
        self.reason = reason
        self.advice = advice

    @override
    def __str__(self) -> str:
        return f"cannot listen on {self.address}: {self.reason}"


class InheritedSocketRefused(SsmtunneldError):
    """A socket of the service manager's lets in more than the configuration says.

    Args:
        address: The socket's own address.
        reason: What is wrong with it.
        advice: Which line of the unit to change.
    """

    def __init__(self, address: str, reason: str, advice: str) -> None:
        super().__init__(address, reason, advice)
        self.address = address
        self.reason = reason
        self.advice = advice

    @override
    def __str__(self) -> str:
        return f"the inherited socket {self.address} is not used: {self.reason}"


class UnknownTunnel(SsmtunneldError):
    """The daemon has no tunnel of that name.

    Args:
        name: The name.
        known: The names that there are.
    """

    def __init__(self, name: str, known: Iterable[str] = ()) -> None:
        super().__init__(name)
        self.name = name
        near = nearest(name, known, 3)
        self.advice = (
            f"did you mean {' or '.join(near)}?"
            if near
            else "ssmtunneld status lists all tunnels"
        )

    @override
    def __str__(self) -> str:
        return f"there is no tunnel called {self.name!r}"


class TunnelDisabled(SsmtunneldError):
    """The file says that a tunnel is not to run.

    Args:
        name: Its name.
    """

    def __init__(self, name: str) -> None:
        super().__init__(f"{name} is disabled (enabled = false)")
        self.advice = "enable it in its file, and run: ssmtunneld reload"


class UnknownConnection(SsmtunneldError):
    """The daemon has no connection of that id.

    Args:
        name: The id.
    """

    advice = "it might have ended: ssmtunneld connections lists those that are open"

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name

    @override
    def __str__(self) -> str:
        return f"there is no connection {self.name!r}"


class TunnelError(SsmtunneldError):
    """Something happened to one tunnel."""

    recovery: ClassVar[Recovery] = Recovery.RESTART


class LinkError(TunnelError):
    """The websocket failed; the session can live on."""

    recovery = Recovery.RESUME


class LinkUnreachable(LinkError):
    """No connection to the data channel's host could be made.

    Args:
        host: Where.
        reason: Why not, for a person.
    """

    def __init__(self, host: str, reason: CleanText) -> None:
        super().__init__(host, reason)
        self.host = host
        self.reason = reason
        self.advice = (
            f"check that HTTPS to {host} is open (a VPC without internet needs the "
            "ssmmessages endpoint), or set HTTPS_PROXY"
        )

    @override
    def __str__(self) -> str:
        return f"cannot reach {self.host}: {self.reason}"


class LinkUntrusted(LinkUnreachable):
    """The certificate of the data channel's host is not trusted.

    Args:
        host: Where.
        reason: What is wrong with the certificate, in the words of the TLS library.
    """

    recovery = Recovery.WAIT

    def __init__(self, host: str, reason: CleanText) -> None:
        words = f"its certificate is not trusted ({reason})"
        super().__init__(host, clean(words))
        self.advice = NAME_AUTHORITY


class LinkLost(LinkError):
    """The websocket ended.

    Args:
        reason: What ended it, for a person.
        code: The close code of RFC 6455 section 7.4, where a close frame arrived.
    """

    def __init__(self, reason: CleanText, code: int | None = None) -> None:
        super().__init__(reason, code)
        self.reason = reason
        self.code = code

    @override
    def __str__(self) -> str:
        code = "" if self.code is None else f" (close code {self.code})"
        return f"the data channel's websocket ended: {self.reason}{code}"


class LinkRefused(LinkError):
    """The websocket upgrade was answered with an HTTP error.

    Args:
        status: The HTTP status.
        host: Where.
    """

    def __init__(self, status: int, host: str) -> None:
        super().__init__(status, host)
        self.status = status
        self.host = host
        if status in {401, 403}:
            self.advice = (
                "allow ssmmessages:OpenDataChannel on "
                "arn:aws:ssm:*:*:session/${aws:userid}-* in the caller's IAM policy"
            )

    @override
    def __str__(self) -> str:
        return f"{self.host} refused the data channel with HTTP {self.status}"


class PeerUnresponsive(LinkError):
    """Nothing was heard from the service for too long (design D4).

    Args:
        waited: Seconds of silence.
    """

    def __init__(self, waited: float) -> None:
        super().__init__(waited)
        self.waited = waited

    @override
    def __str__(self) -> str:
        return f"nothing was heard on the data channel for {self.waited:.0f} s"


class SessionError(TunnelError):
    """The session is over; another one can be started."""


class RemoteProtocolError(SessionError):
    """The peer sent something that the protocol does not allow."""


class HandshakeFailed(SessionError):
    """The agent and we could not agree on a session (protocol 5).

    Args:
        reason: Why not, for a person.
    """

    def __init__(self, reason: CleanText) -> None:
        super().__init__(reason)
        self.reason = reason


class AgentUnresponsive(SessionError):
    """The agent acknowledges nothing any more, and nothing speaks for it (design D21).

    Args:
        target: Where it runs.
        seconds: How long it has been silent.
        evidence: What speaks against it, as a clause.
    """

    advice = (
        "check that the target is up and not out of memory, and restart its SSM agent "
        "if this happens again"
    )

    def __init__(self, target: str, seconds: float, evidence: CleanText) -> None:
        super().__init__(target, seconds, evidence)
        self.target = target
        self.seconds = seconds
        self.evidence = evidence

    @override
    def __str__(self) -> str:
        return (
            f"the agent of {self.target} has acknowledged nothing for "
            f"{self.seconds:.0f} s, and {self.evidence}"
        )


class ChannelClosed(SessionError):
    """The service closed the channel (protocol 3.4).

    Args:
        output: The service's or agent's words; empty for an ordinary end.
    """

    advice = LOOK_AT_LIMITS

    def __init__(self, output: CleanText = _NO_WORDS) -> None:
        super().__init__(output)
        self.output = output

    @override
    def __str__(self) -> str:
        words = " ".join(self.output.replace("----------ERROR-------", "").split())
        return f"the service ended the session: {words or 'no reason given'}"


class DestinationForbidden(ChannelClosed):
    """The agent forwards to no such address, whoever asks (protocol 6.2)."""

    recovery = Recovery.WAIT
    advice = (
        "name another host: agents forward neither to loopback nor to addresses of "
        "AWS's own services; the target itself is reached without a host, by its port"
    )


class SessionGone(SessionError):
    """There is nothing to resume: timed out, terminated or unknown (protocol 1.7)."""

    advice = LOOK_AT_LIMITS

    def __init__(self, session_id: str, reason: CleanText) -> None:
        super().__init__(session_id, reason)
        self.session_id = session_id
        self.reason = reason

    @override
    def __str__(self) -> str:
        return f"session {self.session_id} cannot be resumed: {self.reason}"


class TrialLost(SessionError):
    """A session was lost in a trial of a larger message; no connection had it yet.

    Args:
        size: Bytes of payload that were tried.
        reason: What happened, for a person.
    """

    def __init__(self, size: int, reason: CleanText) -> None:
        super().__init__(size, reason)
        self.size = size
        self.reason = reason

    @override
    def __str__(self) -> str:
        return f"a message of {self.size} bytes was tried: {self.reason}"


class Unforeseen(SessionError):
    """Something of ours broke in a way that nobody foresaw (design D18).

    Args:
        defect: Its type and place, without values.
    """

    advice = "this is a defect of ssmtunneld, please report it with its line in the log"

    def __init__(self, defect: str) -> None:
        super().__init__(defect)
        self.defect = defect

    @override
    def __str__(self) -> str:
        return self.defect


class AccessMissing(TunnelError):
    """There is no approved access to the node of a tunnel that needs it.

    Args:
        reason: Why not, for a person.
        advice: What to do about it.
        pending: True if an approval can come without anybody asking again.
    """

    recovery = Recovery.WAIT

    def __init__(
        self, reason: CleanText, advice: str, *, pending: bool = False
    ) -> None:
        super().__init__(reason, advice)
        self.reason = reason
        self.advice = advice
        self.pending = pending

    @override
    def __str__(self) -> str:
        return self.reason


class TargetAsleep(TunnelError):
    """The instance of a tunnel with ``start_target`` is not ready for sessions.

    Args:
        reason: What it does instead, for a person.
        advice: What to do about it; empty for nothing.
    """

    recovery = Recovery.WAIT

    def __init__(self, reason: CleanText, advice: str = "") -> None:
        super().__init__(reason, advice)
        self.reason = reason
        self.advice = advice

    @override
    def __str__(self) -> str:
        return self.reason


class AwsError(TunnelError):
    """The control plane said no.

    Args:
        operation: ``StartSession``, ``ResumeSession``, ...
        code: The service's error code, or a short word of ours.
        message: The service's words, cleaned where they came in (design D19).
        advice: What to do about it; foreign words in it are cleaned too.
    """

    passes: bool = False
    """True if it can be over in seconds without anybody doing something."""

    def __init__(
        self, operation: str, code: CleanText, message: CleanText, advice: str = ""
    ) -> None:
        super().__init__(operation, code, message, advice)
        self.operation = operation
        self.code = code
        self.message = message
        if advice:
            self.advice = advice

    @override
    def __str__(self) -> str:
        return f"{self.operation} failed: {self.code}: {self.message}"


class Throttled(AwsError):
    """Too many calls, or a quota is used up; try again later, with jitter."""

    passes = True


class ServiceUnavailable(AwsError):
    """The service failed or could not be reached; try again."""

    passes = True


class ServiceUntrusted(ServiceUnavailable):
    """The certificate of the API's endpoint is not trusted."""

    passes = False
    recovery = Recovery.WAIT
    advice = NAME_AUTHORITY


class TargetNotConnected(AwsError):
    """No agent answers for the target."""

    passes = True  # while an agent restarts or reconnects
    recovery = Recovery.WAIT


class TargetNotFound(TargetNotConnected):
    """Nothing that is online matches what stands for the target."""

    passes = False

    @override
    def __str__(self) -> str:
        return self.message


class TargetOffline(TargetNotFound):
    """All that matches is offline, or not there yet: it may just be starting."""

    passes = True


class AccessDenied(AwsError):
    """IAM says no, or a switch of the account."""

    recovery = Recovery.WAIT


class CredentialsUnusable(AwsError):
    """There are no credentials, or they expired, or a human must log in."""

    recovery = Recovery.WAIT


class RequestRejected(AwsError):
    """The request itself is wrong: unknown document, bad parameter."""

    recovery = Recovery.STOP


class StreamError(TunnelError):
    """One local connection; its session goes on."""


class StreamReset(StreamError):
    """The stream ended without its end of file; data could be missing."""


class DestinationRefused(StreamError):
    """The agent could not connect to the destination (protocol 6.6)."""

    advice = "check that the destination is up and reachable from the target"


class NoSessionReady(StreamError):
    """No session was ready within ``connect_timeout``."""
