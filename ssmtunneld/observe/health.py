"""Liveness, startup and readiness of the daemon, for probes."""

from dataclasses import dataclass
from typing import Any

from ssmtunneld.observe.status import DaemonStatus, TunnelState, TunnelStatus


@dataclass(frozen=True, slots=True)
class Check:
    """One tunnel's part of an answer."""

    tunnel: str
    state: TunnelState
    passed: bool
    required: bool
    """True if the answer depends on it."""
    reason: str

    def line(self) -> str:
        """Return it for a person, as Kubernetes' own components write it."""
        mark = "[+]" if self.passed else "[-]"
        words = "ok" if self.passed else f"failed: {self.state.value}"
        reason = f": {self.reason}" if self.reason and not self.passed else ""
        note = "" if self.required else " (not required)"
        return f"{mark}{self.tunnel} {words}{reason}{note}"

    def as_document(self) -> dict[str, Any]:
        """Return it for a program."""
        return {
            "tunnel": self.tunnel,
            "state": self.state.value,
            "passed": self.passed,
            "required": self.required,
            "reason": self.reason,
        }


@dataclass(frozen=True, slots=True)
class Health:
    """The answer to one probe."""

    probe: str
    """``readyz`` or ``startupz``."""
    checks: tuple[Check, ...]
    draining: bool = False

    @property
    def passed(self) -> bool:
        """True if the check passes."""
        required = (check.passed for check in self.checks if check.required)
        return not self.draining and all(required)

    def text(self, *, verbose: bool) -> str:
        """Return the answer for a person; a no always says why."""
        if self.passed and not verbose:
            return "ok\n"
        lines = [check.line() for check in self.checks]
        if self.draining:
            lines.append("[-]daemon failed: draining")
        lines.append(f"{self.probe} check {'passed' if self.passed else 'failed'}")
        return "\n".join([*lines, ""])

    def as_document(self) -> dict[str, Any]:
        """Return the answer for a program."""
        return {
            "passed": self.passed,
            "draining": self.draining,
            "tunnels": [check.as_document() for check in self.checks],
        }


def readiness(status: DaemonStatus) -> Health:
    """Return whether every tunnel that is required can be used."""
    checks = tuple(_check(m, passed=m.usable) for m in status.tunnels if m.enabled)
    return Health("readyz", checks, draining=status.draining)


def readiness_of(status: DaemonStatus, name: str) -> Health | None:
    """Return whether the tunnel ``name`` can be used; ``None`` if there is none."""
    found = [m for m in status.tunnels if m.name == name]
    if not found:
        return None
    tunnel = found[0]
    check = _check(tunnel, passed=tunnel.usable, required=True)
    return Health("readyz", (check,), draining=status.draining)


def startup(status: DaemonStatus) -> Health:
    """Return whether every tunnel that is required listens; says nothing of AWS."""
    enabled = (tunnel for tunnel in status.tunnels if tunnel.enabled)
    checks = (_check(m, passed=bool(m.listen)) for m in enabled)
    return Health("startupz", tuple(checks))


def _check(
    tunnel: TunnelStatus, *, passed: bool, required: bool | None = None
) -> Check:
    return Check(
        tunnel=tunnel.name,
        state=tunnel.state,
        passed=passed,
        required=tunnel.required if required is None else required,
        reason=tunnel.reason,
    )
