"""The dashboard for Grafana in ``contrib/grafana``, made from the table below.

``python -m tests.packaging.dashboard`` (``make dashboard``) writes it after a change.
It is Grafana's classic JSON, of schema version 39 (Grafana 11).
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

DASHBOARD: Final = Path(__file__).parents[2] / "contrib" / "grafana" / "ssmtunneld.json"
SCHEMA_VERSION: Final = 39
WIDTH: Final = 24
"""Columns of Grafana's grid."""

_SOURCE: Final = {"type": "prometheus", "uid": "${datasource}"}
_DAEMON: Final = 'job=~"$job", instance=~"$instance"'
_TUNNEL: Final = f'{_DAEMON}, tunnel=~"$tunnel"'
_RATE: Final = "$__rate_interval"
_LEGEND: Final = {"displayMode": "list", "placement": "bottom"}
_OVER_TIME: Final = {"timeseries", "state-timeline"}
_GREEN_TO_RED: Final = ((None, "green"), (1, "red"))
_RED_TO_GREEN: Final = ((None, "red"), (1, "green"))


@dataclass(frozen=True)
class Panel:
    """One panel.

    Attributes:
        title: Heading.
        queries: Expressions in PromQL, each with the legend of its series.
        kind: Grafana's name of the type of panel.
        unit: Grafana's name of the unit.
        width: Columns.
        height: Rows of the grid.
        says: What is shown, for whoever asks.
        steps: Values from which on a colour holds.
        stacked: Series are added up.
        most: Largest value of the axis.
        words: Text and colour of single values.
    """

    title: str
    queries: tuple[tuple[str, str], ...]
    kind: str = "timeseries"
    unit: str = "short"
    width: int = 8
    height: int = 7
    says: str = ""
    steps: tuple[tuple[float | None, str], ...] = ((None, "green"),)
    stacked: bool = False
    most: float | None = None
    words: dict[str, tuple[str, str]] = field(default_factory=dict)


def _of(metric: str, more: str = "", *, tunnel: bool = True) -> str:
    """Return the selector of a metric for what is chosen above the panels."""
    chosen = _TUNNEL if tunnel else _DAEMON
    return f"ssmtunneld_{metric}{{{chosen}{more}}}"


def _rate(metric: str, by: str, more: str = "") -> str:
    return f"sum by ({by}) (rate({_of(metric, more)}[{_RATE}]))"


def _quantile(share: float, metric: str) -> str:
    buckets = f"rate({_of(f'{metric}_bucket')}[{_RATE}])"
    return f"histogram_quantile({share}, sum by (le) ({buckets}))"


_NAMED: Final = "{{instance}} {{tunnel}}"
_UP: Final = {"0": ("down", "red"), "1": ("up", "green")}

ROWS: Final[tuple[tuple[str, tuple[Panel, ...]], ...]] = (
    (
        "Overview",
        (
            Panel(
                "Daemons ready",
                (
                    (f"sum({_of('ready', tunnel=False)})", "ready"),
                    (f"count({_of('ready', tunnel=False)})", "of"),
                ),
                kind="stat",
                width=4,
                height=4,
                says="Daemons whose required tunnels are all usable, and all daemons.",
            ),
            Panel(
                "Tunnels usable",
                (
                    (f"sum({_of('tunnel_up')})", "usable"),
                    (f"count({_of('tunnel_up')})", "of"),
                ),
                kind="stat",
                width=4,
                height=4,
                says="Tunnels that can serve a new connection, and all of them.",
            ),
            Panel(
                "Required and down",
                (
                    (
                        f"count({_of('tunnel_up')} == 0 and on (job, instance, tunnel) "
                        f"{_of('tunnel_required')} == 1) or vector(0)",
                        "",
                    ),
                ),
                kind="stat",
                width=4,
                height=4,
                steps=_GREEN_TO_RED,
            ),
            Panel(
                "Open connections",
                ((f"sum({_of('connections_active')})", ""),),
                kind="stat",
                width=4,
                height=4,
            ),
            Panel(
                "Sessions lost in the last hour",
                (
                    (
                        "sum(increase("
                        + _of("reconnects_total", ', kind="restart"')
                        + "[1h]))",
                        "",
                    ),
                ),
                kind="stat",
                width=4,
                height=4,
                steps=_GREEN_TO_RED,
                says="Sessions that were lost together with their connections.",
            ),
            Panel(
                "Next login",
                (
                    (
                        "min("
                        + _of("login_expiry_timestamp_seconds", tunnel=False)
                        + ") - time()",
                        "",
                    ),
                ),
                kind="stat",
                unit="s",
                width=4,
                height=4,
                steps=((None, "red"), (900, "green")),
                says="Time until a person must log in; nothing where nobody must.",
            ),
            Panel(
                "Usable tunnels",
                ((_of("tunnel_up"), _NAMED),),
                kind="state-timeline",
                width=12,
                height=8,
                words=_UP,
                steps=_RED_TO_GREEN,
            ),
            Panel(
                "State",
                ((_of("tunnel_state") + " == 1", f"{_NAMED}: {{{{state}}}}"),),
                kind="state-timeline",
                width=12,
                height=8,
                words={"1": ("yes", "blue")},
                says="The state of each tunnel: one line for each that it was in.",
            ),
        ),
    ),
    (
        "Connections",
        (
            Panel(
                "Open connections",
                ((_of("connections_active"), _NAMED),),
                stacked=True,
            ),
            Panel(
                "Share of max_connections",
                (
                    (
                        f"{_of('connections_active')} / {_of('connections_limit')}",
                        _NAMED,
                    ),
                ),
                unit="percentunit",
                most=1,
                steps=((None, "green"), (0.8, "orange"), (1, "red")),
            ),
            Panel(
                "Waiting",
                (
                    (_of("connections_waiting"), f"{_NAMED}: for a session"),
                    (_of("connections_queued"), f"{_NAMED}: to be accepted"),
                ),
                says="Accepted connections without a session yet, and connections that "
                "wait because max_connections are open.",
            ),
            Panel(
                "Finished connections",
                ((_rate("connections_total", "result"), "{{result}}"),),
                unit="cps",
                stacked=True,
            ),
            Panel(
                "Connections that did not get through",
                (
                    (_rate("dial_failures_total", "reason"), "{{reason}}"),
                    (
                        _rate("connections_rejected_total", "rule"),
                        "rejected: {{rule}}",
                    ),
                    (
                        _rate("connections_saturated_total", "tunnel"),
                        "limit reached: {{tunnel}}",
                    ),
                ),
                unit="cps",
            ),
            Panel(
                "Wait for a session",
                (
                    (_quantile(0.5, "stream_open_seconds"), "half"),
                    (_quantile(0.99, "stream_open_seconds"), "99 of 100"),
                ),
                unit="s",
                says="Time that new connections waited; 0 where a session was ready.",
            ),
        ),
    ),
    (
        "Traffic",
        (
            Panel(
                "Up: from clients",
                ((_rate("transmit_bytes_total", "instance, tunnel"), _NAMED),),
                unit="Bps",
                width=12,
                stacked=True,
            ),
            Panel(
                "Down: to clients",
                ((_rate("receive_bytes_total", "instance, tunnel"), _NAMED),),
                unit="Bps",
                width=12,
                stacked=True,
            ),
        ),
    ),
    (
        "Sessions",
        (
            Panel(
                "Sessions",
                (
                    (f"sum by (phase) ({_of('sessions')})", "{{phase}}"),
                    (f"sum({_of('sessions_stalled')})", "stalled"),
                ),
                stacked=False,
            ),
            Panel(
                "Reconnects",
                ((_rate("reconnects_total", "kind"), "{{kind}}"),),
                unit="ops",
                says="resume: a websocket was replaced, connections go on. restart: a "
                "session was lost with its connections.",
            ),
            Panel(
                "Failed starts",
                ((_rate("session_start_failures_total", "reason"), "{{reason}}"),),
                unit="ops",
            ),
            Panel(
                "Started and ended",
                (
                    (f"sum(rate({_of('sessions_started_total')}[{_RATE}]))", "started"),
                    (_rate("sessions_ended_total", "reason"), "ended: {{reason}}"),
                ),
                unit="ops",
            ),
            Panel(
                "Time to start a session",
                (
                    (_quantile(0.5, "session_start_seconds"), "half"),
                    (_quantile(0.99, "session_start_seconds"), "99 of 100"),
                ),
                unit="s",
            ),
            Panel(
                "Age of the oldest session",
                ((_of("session_age_seconds"), _NAMED),),
                unit="s",
            ),
        ),
    ),
    (
        "Data channel and destination",
        (
            Panel(
                "Round trip to the agent",
                (
                    (_of("rtt_seconds"), _NAMED),
                    (_of("least_rtt_seconds"), f"{_NAMED}: empty path"),
                ),
                unit="s",
            ),
            Panel(
                "Unacknowledged bytes",
                (
                    (_of("unacked_bytes"), _NAMED),
                    (_of("window_bytes"), f"{_NAMED}: window"),
                ),
                unit="bytes",
            ),
            Panel(
                "Acknowledged rate",
                ((_of("delivered_bytes_per_second"), _NAMED),),
                unit="Bps",
            ),
            Panel(
                "Retransmitted and repeated messages",
                (
                    (_rate("retransmissions_total", "instance, tunnel"), _NAMED),
                    (
                        _rate("duplicates_total", "instance, tunnel"),
                        f"{_NAMED}: received twice",
                    ),
                ),
                unit="ops",
            ),
            Panel(
                "Paused by the agent",
                ((_of("publication_paused"), _NAMED),),
            ),
            Panel(
                "Probes",
                ((_of("probe_up"), _NAMED),),
                kind="state-timeline",
                words=_UP,
                steps=_RED_TO_GREEN,
                says="Up if the destination passed its last probe; empty without one.",
            ),
        ),
    ),
    (
        "Credentials and the daemon itself",
        (
            Panel(
                "Credentials expire",
                (
                    (
                        _of("credentials_expiry_timestamp_seconds", tunnel=False)
                        + " - time()",
                        "{{instance}} {{identity}}: keys",
                    ),
                    (
                        _of("login_expiry_timestamp_seconds", tunnel=False)
                        + " - time()",
                        "{{instance}} {{identity}}: login",
                    ),
                ),
                unit="s",
                says="Keys are renewed 10 to 15 minutes before; a login by a person.",
            ),
            Panel(
                "Access on request ends",
                (
                    (
                        _of("access_expiry_timestamp_seconds") + " - time()",
                        _NAMED,
                    ),
                ),
                unit="s",
                steps=((None, "red"), (600, "green")),
                says="Approved access to nodes. Keys of an approval that lasts longer "
                "are renewed every 5 minutes; at its end somebody must ask again.",
            ),
            Panel(
                "Bastions that are awake",
                ((_of("bastion_awake"), _NAMED),),
                kind="state-timeline",
                words={"0": ("asleep", "blue"), "1": ("awake", "green")},
                says="Targets that are started on demand.",
            ),
            Panel(
                "Attempts to get credentials",
                (
                    (
                        "sum by (identity, outcome) (rate("
                        + _of("credentials_refreshes_total", tunnel=False)
                        + f"[{_RATE}]))",
                        "{{identity}}: {{outcome}}",
                    ),
                ),
                unit="ops",
            ),
            Panel(
                "Processor",
                (
                    (
                        f"rate(process_cpu_seconds_total{{{_DAEMON}}}[{_RATE}]) and on "
                        f"(job, instance) {_of('ready', tunnel=False)}",
                        "{{instance}}",
                    ),
                ),
                unit="percentunit",
                says="Of one core.",
            ),
            Panel(
                "Memory",
                (
                    (
                        f"process_resident_memory_bytes{{{_DAEMON}}} and on "
                        f"(job, instance) {_of('ready', tunnel=False)}",
                        "{{instance}}",
                    ),
                ),
                unit="bytes",
            ),
            Panel(
                "Defects, lost audit lines, rejected files",
                (
                    (
                        "sum by (instance, compartment) ("
                        + _of("defects_total", tunnel=False)
                        + ")",
                        "{{instance}}: defects in {{compartment}}",
                    ),
                    (
                        _of("audit_lost_lines_total", tunnel=False),
                        "{{instance}}: audit lines lost",
                    ),
                    (
                        "1 - " + _of("config_last_reload_successful", tunnel=False),
                        "{{instance}}: configuration rejected",
                    ),
                ),
                says="All zero, where all is well. Counts since the daemon's start.",
            ),
            Panel(
                "Versions",
                (
                    (
                        "count by (version, python) ("
                        + _of("build_info", tunnel=False)
                        + ")",
                        "{{version}}, Python {{python}}",
                    ),
                ),
                kind="bargauge",
            ),
        ),
    ),
)


def _variable(name: str, query: str) -> dict[str, Any]:
    return {
        "name": name,
        "label": name.capitalize(),
        "type": "query",
        "datasource": _SOURCE,
        "query": {"query": query, "refId": f"variable-{name}"},
        "refresh": 2,
        "sort": 1,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"selected": True, "text": ["All"], "value": ["$__all"]},
        "hide": 0,
        "options": [],
        "regex": "",
        "skipUrlSync": False,
    }


def variables() -> list[dict[str, Any]]:
    """Return what can be chosen: the source of data, jobs, instances and tunnels."""
    source = {
        "name": "datasource",
        "label": "Data source",
        "type": "datasource",
        "query": "prometheus",
        "refresh": 1,
        "multi": False,
        "includeAll": False,
        "hide": 0,
        "options": [],
        "regex": "",
        "skipUrlSync": False,
    }
    up = "ssmtunneld_tunnel_up"
    return [
        source,
        _variable("job", "label_values(ssmtunneld_ready, job)"),
        _variable("instance", 'label_values(ssmtunneld_ready{job=~"$job"}, instance)'),
        _variable("tunnel", f"label_values({up}{{{_DAEMON}}}, tunnel)"),
    ]


def _options(panel: Panel) -> dict[str, Any]:
    if panel.kind == "timeseries":
        return {
            "legend": _LEGEND | {"showLegend": True},
            "tooltip": {"mode": "multi", "sort": "desc"},
        }
    if panel.kind == "state-timeline":
        return {
            "legend": _LEGEND | {"showLegend": False},
            "mergeValues": True,
            "rowHeight": 0.8,
            "showValue": "never",
            "tooltip": {"mode": "single", "sort": "none"},
        }
    reduce = {"calcs": ["lastNotNull"], "fields": "", "values": False}
    if panel.kind == "stat":
        return {
            "colorMode": "value",
            "graphMode": "none",
            "justifyMode": "auto",
            "orientation": "auto",
            "reduceOptions": reduce,
            "textMode": "auto",
        }
    return {
        "displayMode": "basic",
        "orientation": "horizontal",
        "reduceOptions": reduce,
        "showUnfilled": True,
    }


def _fields(panel: Panel) -> dict[str, Any]:
    defaults: dict[str, Any] = {
        "unit": panel.unit,
        "color": {
            "mode": "palette-classic" if panel.kind == "timeseries" else "thresholds"
        },
        "thresholds": {
            "mode": "absolute",
            "steps": [{"color": c, "value": v} for v, c in panel.steps],
        },
        "mappings": [],
    }
    if panel.kind == "timeseries":
        mode = "normal" if panel.stacked else "none"
        defaults["min"] = 0
        defaults["custom"] = {
            "drawStyle": "line",
            "fillOpacity": 20 if panel.stacked else 0,
            "lineWidth": 1,
            "showPoints": "never",
            "stacking": {"group": "A", "mode": mode},
        }
    if panel.most is not None:
        defaults["max"] = panel.most
    if panel.words:
        options = {
            value: {"text": text, "color": color, "index": index}
            for index, (value, (text, color)) in enumerate(panel.words.items())
        }
        defaults["mappings"] = [{"type": "value", "options": options}]
    return {"defaults": defaults, "overrides": []}


def _panels() -> Iterator[dict[str, Any]]:
    number, top = 0, 0
    for heading, panels in ROWS:
        number += 1
        yield {
            "id": number,
            "type": "row",
            "title": heading,
            "collapsed": False,
            "gridPos": {"h": 1, "w": WIDTH, "x": 0, "y": top},
            "panels": [],
        }
        left, top, height = 0, top + 1, 0
        for panel in panels:
            if left + panel.width > WIDTH:
                left, top, height = 0, top + height, 0
            number += 1
            place = {"h": panel.height, "w": panel.width, "x": left, "y": top}
            yield {
                "id": number,
                "type": panel.kind,
                "title": panel.title,
                "description": panel.says,
                "datasource": _SOURCE,
                "gridPos": place,
                "fieldConfig": _fields(panel),
                "options": _options(panel),
                "targets": [
                    {
                        "datasource": _SOURCE,
                        "editorMode": "code",
                        "expr": expression,
                        "legendFormat": legend or "__auto",
                        "range": panel.kind in _OVER_TIME,
                        "instant": panel.kind not in _OVER_TIME,
                        "refId": chr(ord("A") + index),
                    }
                    for index, (expression, legend) in enumerate(panel.queries)
                ],
            }
            left, height = left + panel.width, max(height, panel.height)
        top += height


def dashboard() -> dict[str, Any]:
    """Return the dashboard as Grafana imports it."""
    return {
        "uid": "ssmtunneld",
        "title": "ssmtunneld",
        "description": "Tunnels through AWS Session Manager: docs/metrics.md of "
        "https://github.com/ssmtunneld/ssmtunneld says what each metric means.",
        "tags": ["ssmtunneld"],
        "schemaVersion": SCHEMA_VERSION,
        "version": 1,
        "editable": True,
        "graphTooltip": 1,
        "fiscalYearStartMonth": 0,
        "timezone": "browser",
        "time": {"from": "now-6h", "to": "now"},
        "refresh": "30s",
        "templating": {"list": variables()},
        "annotations": {"list": []},
        "links": [],
        "panels": list(_panels()),
    }


def text() -> str:
    """Return the file's text."""
    return json.dumps(dashboard(), indent=1) + "\n"


if __name__ == "__main__":
    DASHBOARD.write_text(text(), encoding="utf-8")
