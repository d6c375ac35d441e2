"""Metrics for Prometheus, made from a status document at each scrape.

Labels are bounded: names of tunnels, profiles and roles that the configuration has,
and words that the source knows. No metric names an instance, a session, a client or a
host (docs/metrics.md lists all of them).
"""

import platform
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector
from typing_extensions import override

from ssmtunneld.errors import AwsError, SessionError
from ssmtunneld.listener.access import Rejection
from ssmtunneld.listener.counters import Failure
from ssmtunneld.listener.relay import ConnectionOutcome
from ssmtunneld.observe.status import (
    DaemonStatus,
    IdentityStatus,
    TunnelState,
    TunnelStatus,
)
from ssmtunneld.sessions.counters import Distribution, Reason, reasons_of
from ssmtunneld.version import __version__

NAMESPACE: Final = "ssmtunneld"

# What is always there, so that a rate has a zero to start from; others come as they do.
_ENDED: Final = (Reason.STOPPED, *reasons_of(SessionError))
_FAILED: Final = reasons_of(AwsError)
_PHASES: Final = ("starting", "ready", "resuming")
_STATES: Final = tuple(s for s in TunnelState if s is not TunnelState.DISABLED)


def _probe_up(tunnel: TunnelStatus) -> float | None:
    return None if tunnel.probe is None else tunnel.probe.ok


def _known(values: Iterable[float | None]) -> list[float]:
    return [value for value in values if value is not None]


_Value = Callable[[TunnelStatus], float | None]
_Values = Callable[[TunnelStatus], Mapping[str, float]]

_GAUGES: Final[tuple[tuple[str, str, _Value], ...]] = (
    (
        "tunnel_up",
        "1 if the tunnel is usable: a new connection can be served.",
        lambda m: m.usable,
    ),
    (
        "tunnel_required",
        "1 if the daemon's readiness depends on the tunnel.",
        lambda m: m.required,
    ),
    ("probe_up", "1 if the destination passed its last probe.", _probe_up),
    (
        "access_granted",
        "1 if access to the node is granted, where it has to be requested.",
        lambda m: None if m.access is None else m.access.granted,
    ),
    (
        "access_expiry_timestamp_seconds",
        "Expiry of the keys of an approved access request, in Unix seconds.",
        lambda m: None if m.access is None else m.access.expires_at,
    ),
    (
        "bastion_awake",
        "1 if the instance of a tunnel with start_target takes sessions.",
        lambda m: None if m.bastion is None else m.bastion.phase == "awake",
    ),
    ("connections_active", "Local connections.", lambda m: m.connections),
    (
        "connections_limit",
        "Limit of local connections (max_connections).",
        lambda m: m.max_connections,
    ),
    (
        "connections_waiting",
        "Local connections waiting for a session.",
        lambda m: m.waiting,
    ),
    (
        "connections_queued",
        "Local connections waiting to be accepted.",
        lambda m: m.queued,
    ),
    (
        "session_age_seconds",
        "Age of the oldest session.",
        lambda m: max((s.age for s in m.sessions), default=None),
    ),
    (
        "sessions_stalled",
        "Sessions without progress although data is pending.",
        lambda m: sum(s.stalled for s in m.sessions),
    ),
    (
        "publication_paused",
        "Sessions whose agent has asked to pause publication.",
        lambda m: sum(s.paused for s in m.sessions),
    ),
    (
        "unacked_bytes",
        "Bytes sent and not yet acknowledged.",
        lambda m: sum(s.unacknowledged_bytes for s in m.sessions),
    ),
    (
        "message_size_bytes",
        "Largest payload that a message of a session may have.",
        lambda m: max((s.message_size for s in m.sessions), default=None),
    ),
    (
        "window_bytes",
        "Bytes that the sessions may have unacknowledged.",
        lambda m: sum(s.window for s in m.sessions),
    ),
    (
        "delivered_bytes_per_second",
        "Rate at which agents acknowledged when last measured, of the fastest session.",
        lambda m: max(_known(s.delivered_rate for s in m.sessions), default=None),
    ),
    (
        "least_rtt_seconds",
        "Round trip of the empty path, of the session where it is shortest.",
        lambda m: min(_known(s.least_rtt for s in m.sessions), default=None),
    ),
    (
        "rtt_seconds",
        "Smoothed round trip to the agent of the busiest session.",
        lambda m: m.rtt,
    ),
)

_COUNTERS: Final[tuple[tuple[str, str, _Value], ...]] = (
    (
        "connections_accepted",
        "Accepted local connections.",
        lambda m: m.accepted,
    ),
    (
        "connections_saturated",
        "Times that the limit was reached and further connections had to wait.",
        lambda m: m.saturated,
    ),
    ("transmit_bytes", "Bytes from local clients.", lambda m: m.sent),
    ("receive_bytes", "Bytes to local clients.", lambda m: m.received),
    (
        "sessions_started",
        "Sessions that the service granted.",
        lambda m: m.counts.started,
    ),
    (
        "retransmissions",
        "Messages retransmitted on the data channel.",
        lambda m: m.counts.retransmitted,
    ),
    (
        "duplicates",
        "Duplicate messages received on the data channel.",
        lambda m: m.counts.duplicates,
    ),
)

_LABELLED: Final[tuple[tuple[str, str, str, _Values], ...]] = (
    (
        "connections",
        "Finished local connections, by result.",
        "result",
        lambda m: _filled((e.value for e in ConnectionOutcome), m.endings),
    ),
    (
        "connections_rejected",
        "Local connections rejected on arrival, by rule.",
        "rule",
        lambda m: _filled((r.value for r in Rejection), m.rejections),
    ),
    (
        "dial_failures",
        "Local connections that did not reach the destination, by reason.",
        "reason",
        lambda m: _filled((f.value for f in Failure), m.failures),
    ),
    (
        "sessions_ended",
        "Ended sessions, by reason.",
        "reason",
        lambda m: _filled(_ENDED, m.counts.ended),
    ),
    (
        "message_size_trials",
        "Trials of larger messages that were acknowledged, and that ended a session.",
        "result",
        lambda m: m.counts.size_trials,
    ),
    (
        "session_start_failures",
        "Failed attempts to start a session, by reason.",
        "reason",
        lambda m: _filled(_FAILED, m.counts.failed),
    ),
    (
        "reconnects",
        "Lost websockets that were replaced (resume), and sessions lost with their "
        "connections (restart).",
        "kind",
        lambda m: {"resume": m.counts.resumed, "restart": m.counts.restarted},
    ),
)

_HISTOGRAMS: Final[
    tuple[tuple[str, str, Callable[[TunnelStatus], Distribution]], ...]
] = (
    (
        "session_start_seconds",
        "Time from StartSession until a session is ready.",
        lambda m: m.counts.starting,
    ),
    (
        "stream_open_seconds",
        "Time that local connections waited for a session.",
        lambda m: m.counts.opening,
    ),
)

_Expiry = Callable[[IdentityStatus], float | None]

_EXPIRIES: Final[tuple[tuple[str, str, _Expiry], ...]] = (
    (
        "credentials_expiry_timestamp_seconds",
        "Expiry of the AWS credentials in use, in Unix seconds.",
        lambda identity: identity.expires_at,
    ),
    (
        "login_expiry_timestamp_seconds",
        "Time at which a human must log in again, in Unix seconds.",
        lambda identity: identity.login_ends_at,
    ),
)


def _filled(
    names: Iterable[str], counts: Mapping[str, int] | Mapping[Reason, int]
) -> dict[str, float]:
    zeros: dict[str, float] = dict.fromkeys(map(str, names), 0)
    return zeros | {str(name): count for name, count in counts.items()}


class _StatusCollector(Collector):
    """One status document as metrics, without tunnels that are disabled.

    An alert for tunnels that are not up is not for these.
    """

    def __init__(self, status: DaemonStatus) -> None:
        self._status = status
        self._tunnels = [tunnel for tunnel in status.tunnels if tunnel.enabled]

    @override
    def collect(self) -> Iterator[Metric]:
        """Yield every family, each with all tunnels."""
        yield InfoMetricFamily(
            f"{NAMESPACE}_build",
            "Versions of the daemon and of Python.",
            value={"version": __version__, "python": platform.python_version()},
        )
        yield GaugeMetricFamily(
            f"{NAMESPACE}_ready",
            "1 if every required tunnel is usable.",
            value=self._status.ready,
        )
        yield GaugeMetricFamily(
            f"{NAMESPACE}_config_last_reload_successful",
            "1 if the configuration file is in use, 0 if its last change was rejected.",
            value=not self._status.config_error,
        )
        yield from self._plain(GaugeMetricFamily, _GAUGES)
        yield from self._plain(CounterMetricFamily, _COUNTERS)
        yield self._defects()
        yield from self._audit()
        yield self._states()
        yield self._phases()
        yield from self._labelled()
        yield from self._histograms()
        yield from self._credentials()

    def _plain(
        self,
        kind: type[GaugeMetricFamily | CounterMetricFamily],
        described: Iterable[tuple[str, str, _Value]],
    ) -> Iterator[Metric]:
        for name, text, value_of in described:
            family = kind(f"{NAMESPACE}_{name}", text, labels=["tunnel"])
            for tunnel in self._tunnels:
                value = value_of(tunnel)
                if value is not None:
                    family.add_metric([tunnel.name], value)
            yield family

    def _defects(self) -> Metric:
        text = "Unexpected exceptions, by the component that was restarted."
        name, labels = f"{NAMESPACE}_defects", ["tunnel", "compartment"]
        family = CounterMetricFamily(name, text, labels=labels)
        for tunnel in self._tunnels:
            for defect in tunnel.defects:
                family.add_metric([tunnel.name, defect.compartment], defect.count)
        for defect in self._status.defects:  # no tunnel's
            family.add_metric(["", defect.compartment], defect.count)
        return family

    def _audit(self) -> Iterator[Metric]:
        audit = self._status.audit
        if audit is not None:
            name = f"{NAMESPACE}_audit_lost_lines"
            text = "Lines of the audit log that could not be written."
            yield CounterMetricFamily(name, text, value=audit.lost)

    def _states(self) -> Metric:
        text = "1 for the current state of the tunnel, 0 for all others."
        name = f"{NAMESPACE}_tunnel_state"
        family = GaugeMetricFamily(name, text, labels=["tunnel", "state"])
        for tunnel in self._tunnels:
            for state in _STATES:
                labels = [tunnel.name, state.value]
                family.add_metric(labels, tunnel.state is state)
        return family

    def _phases(self) -> Metric:
        name, text = f"{NAMESPACE}_sessions", "Sessions, by phase."
        family = GaugeMetricFamily(name, text, labels=["tunnel", "phase"])
        for tunnel in self._tunnels:
            phases = [session.phase for session in tunnel.sessions]
            for phase in _PHASES:
                family.add_metric([tunnel.name, phase], phases.count(phase))
        return family

    def _labelled(self) -> Iterator[Metric]:
        for name, text, label, values_of in _LABELLED:
            labels = ["tunnel", label]
            family = CounterMetricFamily(f"{NAMESPACE}_{name}", text, labels=labels)
            for tunnel in self._tunnels:
                for word, value in values_of(tunnel).items():
                    family.add_metric([tunnel.name, word], value)
            yield family

    def _credentials(self) -> Iterator[Metric]:
        identities = _by_name(self._status.identities)
        for name, text, read in _EXPIRIES:
            expiry = GaugeMetricFamily(f"{NAMESPACE}_{name}", text, labels=["identity"])
            for label, same in identities.items():
                ends = [at for at in map(read, same) if at is not None]
                if ends:
                    expiry.add_metric([label], min(ends))
            yield expiry
        name, text = (
            f"{NAMESPACE}_credentials_refreshes",
            "Attempts to get AWS credentials.",
        )
        labels = ["identity", "outcome"]
        family = CounterMetricFamily(name, text, labels=labels)
        for label, same in identities.items():
            family.add_metric([label, "renewed"], sum(i.renewed for i in same))
            family.add_metric([label, "failed"], sum(i.failed for i in same))
        yield family

    def _histograms(self) -> Iterator[Metric]:
        for name, text, read in _HISTOGRAMS:
            full = f"{NAMESPACE}_{name}"
            family = HistogramMetricFamily(full, text, labels=["tunnel"])
            for tunnel in self._tunnels:
                found = read(tunnel)
                bounds = [*(str(bound) for bound in found.bounds), "+Inf"]
                buckets = list(zip(bounds, found.counts, strict=True))
                family.add_metric([tunnel.name], buckets, found.total)
            yield family


def _by_name(identities: Iterable[IdentityStatus]) -> dict[str, list[IdentityStatus]]:
    """Return identities by their names: one name for several regions is usual."""
    found: dict[str, list[IdentityStatus]] = {}
    for identity in identities:
        found.setdefault(identity.name, []).append(identity)
    return found


class Metrics:
    """Makes what a scrape gets. Has a registry of its own for each scrape."""

    def __init__(self) -> None:
        self._process = ProcessCollector(registry=None)

    @staticmethod
    def form(accept: str) -> str:
        """Return the content type of the form that the header ``accept`` asks for.

        It is a header that asks for the same form.
        """
        return choose_encoder(accept)[1]

    def render(self, status: DaemonStatus, accept: str = "") -> tuple[bytes, str]:
        """Return the metrics of ``status`` and their content type; for any thread.

        Args:
            status: What to show.
            accept: The request's header: OpenMetrics where that is asked for.
        """
        registry = CollectorRegistry()
        registry.register(_StatusCollector(status))
        registry.register(self._process)
        encode, content_type = choose_encoder(accept)
        return encode(registry), content_type
