"""What a changed setting means for a tunnel that runs (design D12)."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from ssmtunneld.config import Tunnel

LISTENERS: Final = frozenset({"listen"})
"""Only the addresses that changed are given back and taken."""

LIVE: Final = frozenset(
    {
        # Read when they are needed.
        "allow",
        "allow_users",
        "connect_timeout",
        "db_engine",
        "db_name",
        "db_user",
        "destinations",
        "instance_connect",
        "instance_connect_key",
        "instance_connect_user",
        "linger",
        "max_connections",
        "probe",
        "probe_interval",
        "probe_timeout",
        "required",
        "socket_mode",
        # For the next destination that is asked for.
        "max_destinations",
        # For the pool's next plan.
        "idle_close",
        "max_session_age",
        "max_sessions",
        "streams_per_session",
        "warm",
        # For the sessions that are started from now on.
        "reason",
    }
)
"""Neither sessions nor listeners are touched."""

SESSIONS: Final = frozenset(
    {
        "ca_bundle",
        "dead_peer_timeout",
        "document",
        "endpoint_url",
        "external_id",
        "host",
        "keep_alive",
        "mfa_serial",
        "mode",
        "parameters",
        "ping_interval",
        "port",
        "profile",
        "proxy",
        "region",
        "role_arn",
        "role_session_name",
        "session_buffer",
        "ssmmessages_endpoint",
        "stream_buffer",
        "target",
        "target_policy",
    }
)
"""New sessions are started; connections that are open keep theirs."""


def needs_sessions(before: Tunnel, after: Tunnel) -> bool:
    """Whether new connections need other sessions than those of ``before``."""
    # A setting that nobody has thought of yet is taken for one that does.
    return any(
        getattr(before, name) != getattr(after, name)
        for name in Tunnel.model_fields
        if name not in LIVE | LISTENERS
    )


@dataclass(frozen=True, slots=True)
class Changes:
    """What a reload has changed: names of tunnels, in the order of the file."""

    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    unchanged: int = 0
    """How many tunnels are as they were."""

    @classmethod
    def between(cls, before: Sequence[Tunnel], after: Sequence[Tunnel]) -> "Changes":
        """Return what tells ``after`` from ``before``."""
        old = {tunnel.name: tunnel for tunnel in before}
        new = {tunnel.name: tunnel for tunnel in after}
        kept = [name for name in new if name in old]
        changed = tuple(name for name in kept if old[name] != new[name])
        return cls(
            added=tuple(name for name in new if name not in old),
            removed=tuple(name for name in old if name not in new),
            changed=changed,
            unchanged=len(kept) - len(changed),
        )

    def as_document(self) -> dict[str, Any]:
        """Return what ``ssmtunneld reload`` is told."""
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in asdict(self).items()
        }
