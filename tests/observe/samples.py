"""Status documents made by hand."""

from dataclasses import replace

from ssmtunneld.base.compartment import DefectStatus
from ssmtunneld.observe.audit import AuditStatus
from ssmtunneld.observe.status import (
    DaemonStatus,
    IdentityStatus,
    SessionStatus,
    TunnelState,
    TunnelStatus,
    daemon_status,
)
from ssmtunneld.sessions.counters import SessionCounters


def session(**changes: object) -> SessionStatus:
    """Return a ready session."""
    usual = SessionStatus(
        number=1,
        session_id="s-1",
        phase="ready",
        retiring=False,
        age=5.0,
        streams=0,
        rate=0.0,
        stalled=False,
        agent="3.3.987.0",
        mode="mux",
        rtt=0.02,
        unacknowledged=0,
        unacknowledged_bytes=0,
        message_size=8192,
        window=65536,
        delivered_rate=None,
        least_rtt=None,
        paused=False,
        retransmitted=0,
        duplicates=0,
    )
    return replace(usual, **changes)  # type: ignore[arg-type]  # the test knows them


def tunnel(name: str = "db", state: str = "ready", **changes: object) -> TunnelStatus:
    """Return a tunnel that is well unless the test says otherwise."""
    found = TunnelState(state)
    usual = TunnelStatus(
        name=name,
        state=found,
        usable=found in {TunnelState.READY, TunnelState.IDLE},
        reason="",
        advice="",
        listen=("127.0.0.1:5432",),
        target="i-0123456789abcdef0",
        destination="localhost:5432",
        required=found is not TunnelState.DISABLED,
        connections=0,
        max_connections=1000,
        waiting=0,
        queued=0,
        accepted=0,
        refused=0,
        rejected=0,
        saturated=0,
        sent=0,
        received=0,
        rtt=None,
        lasting=False,
        retry_in=None,
        endings={},
        failures={},
        rejections={},
        probe=None,
        counts=SessionCounters().read(),
        sessions=(),
        mode="tcp",
        destinations=(),
        defects=(),
        last_refusal=None,
        groups=(),
        access=None,
        bastion=None,
    )
    return replace(usual, **changes)  # type: ignore[arg-type]  # the test knows them


def identity(name: str = "prod", **changes: object) -> IdentityStatus:
    """Return an identity whose keys renew themselves."""
    usual = IdentityStatus(
        name=name,
        tunnels=("db",),
        expires_at=None,
        login_ends_at=None,
        advice="",
        renewed=1,
        failed=0,
    )
    return replace(usual, **changes)  # type: ignore[arg-type]  # the test knows them


def daemon(
    *tunnels: TunnelStatus,
    draining: bool = False,
    config_error: str = "",
    identities: tuple[IdentityStatus, ...] = (),
    defects: tuple[DefectStatus, ...] = (),
    audit: AuditStatus | None = None,
) -> DaemonStatus:
    """Return a daemon with these tunnels."""
    return daemon_status(
        pid=7,
        config="/c.toml",
        config_error=config_error,
        uptime=60.0,
        tunnels=tunnels,
        identities=identities,
        draining=draining,
        defects=defects,
        audit=audit,
    )


def audit(**changes: object) -> AuditStatus:
    """Return an audit log that is written."""
    usual = AuditStatus(file="/var/log/audit.jsonl", waiting=0, lost=0, reason="")
    return replace(usual, **changes)  # type: ignore[arg-type]  # the test knows them


def defect(compartment: str = "probe", **changes: object) -> DefectStatus:
    """Return a part that broke, and works again."""
    usual = DefectStatus(
        compartment=compartment,
        count=2,
        last="defect: TypeError at observe/probe.py:7",
        age=5.0,
        restart_in=None,
    )
    return replace(usual, **changes)  # type: ignore[arg-type]  # the test knows them
