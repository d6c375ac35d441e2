"""Differences between two configurations, and what they need (design D12)."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ssmtunneld.config.metadata import Reload, reload_of
from ssmtunneld.config.model import DaemonSettings, TunnelSettings


def needs_sessions(before: TunnelSettings, after: TunnelSettings) -> bool:
    """Return True if new connections need other sessions than those of ``before``."""
    return any(
        getattr(before, key) != getattr(after, key)
        for key in TunnelSettings.model_fields
        # A setting that is not listed counts as one that does.
        if reload_of(TunnelSettings, key) in {Reload.SESSIONS, None}
    )


def changed_keys(before: DaemonSettings, after: DaemonSettings) -> tuple[str, ...]:
    """Return the keys of the table ``[daemon]`` that have another value."""
    keys = DaemonSettings.model_fields
    return tuple(k for k in keys if getattr(before, k) != getattr(after, k))


@dataclass(frozen=True, slots=True)
class Changes:
    """Names of the tunnels that a reload has changed, in the order of the file."""

    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    unchanged: int = 0
    """Number of tunnels that are as they were."""
    daemon: tuple[str, ...] = ()
    """Keys of the table ``[daemon]`` that have another value; none needs a restart."""

    @classmethod
    def between(
        cls, before: Sequence[TunnelSettings], after: Sequence[TunnelSettings]
    ) -> "Changes":
        """Return the differences of ``after`` from ``before``."""
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
        """Return the answer to ``ssmtunneld reload``."""
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in asdict(self).items()
        }
