"""Metrics of a scrape: every number of the status document, with bounded labels."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from ssmtunneld.observe.metrics import Metrics
from ssmtunneld.observe.probe import ProbeStatus
from ssmtunneld.observe.status import BastionStatus, NodeAccessStatus, TunnelState
from ssmtunneld.sessions.counters import Reason, SessionCounters
from ssmtunneld.version import __version__
from tests.observe.samples import audit, daemon, defect, identity, session, tunnel
from tests.support.promtool import check_metrics

ROOT = Path(__file__).parents[2]


def scrape(*tunnels, accept="", **how):
    body, kind = Metrics().render(daemon(*tunnels, **how), accept)
    return body.decode(), kind


def samples(*tunnels, **how):
    """Return the value of every sample of ours by name and labels but the tunnel."""
    text, _ = scrape(*tunnels, **how)
    found = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = {k: v for k, v in sample.labels.items() if k != "tunnel"}
            name = sample.name.removeprefix("ssmtunneld_")
            found[(name, *labels.values())] = sample.value
    return found


def tallied():
    """Return counts in which every number is another one."""
    tally = SessionCounters()
    tally.opening.observe(0.2)
    tally._starting.observe(1.5)
    tally._starting.observe(3.0)
    tally._started, tally._resumed, tally._restarted = 11, 12, 13
    tally._retransmitted, tally._duplicates = 14, 15
    tally._ended.update({Reason.GONE: 16, Reason.DENIED: 17})
    tally._failed.update({Reason.THROTTLED: 18})
    return tally.read()


BASTION = BastionStatus(
    phase="awake",
    instance="i-0123456789abcdef0",
    state="running",
    started_by_us=True,
    starts=1,
    stops=0,
)
ACCESS = NodeAccessStatus(
    granted=True,
    expires_at=1_800_000_000.0,
    request_id="oi-0123456789ab",
    request="approved",
    target="i-0123456789abcdef0",
    reason="why",
    asked_at=1_700_000_000.0,
)


BUSY = tunnel(
    state="resuming",
    usable=True,
    connections=1,
    max_connections=2,
    waiting=3,
    accepted=4,
    saturated=5,
    sent=6,
    received=7,
    rtt=0.25,
    endings={"completed": 8},
    failures={"refused": 9},
    rejections={"owner": 10},
    probe=ProbeStatus("tcp", False, False, "no answer", "", 1, 5.0),
    defects=(defect("probe", count=18),),
    counts=tallied(),
    sessions=(
        session(age=70.5, phase="resuming", stalled=True, unacknowledged_bytes=100),
        session(
            age=7.5,
            paused=True,
            unacknowledged_bytes=11,
            window=131072,
            delivered_rate=9000,
            least_rtt=0.01,
        ),
    ),
)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (("tunnel_up",), 1),
        (("tunnel_required",), 1),
        (("probe_up",), 0),
        (("tunnel_state", "resuming"), 1),
        (("tunnel_state", "ready"), 0),
        (("connections_active",), 1),
        (("connections_limit",), 2),
        (("connections_waiting",), 3),
        (("connections_accepted_total",), 4),
        (("connections_saturated_total",), 5),
        (("transmit_bytes_total",), 6),
        (("receive_bytes_total",), 7),
        (("rtt_seconds",), 0.25),
        (("connections_total", "completed"), 8),
        (("connections_total", "local_reset"), 0),
        (("dial_failures_total", "refused"), 9),
        (("dial_failures_total", "no_session"), 0),
        (("connections_rejected_total", "owner"), 10),
        (("connections_rejected_total", "address"), 0),
        (("sessions", "ready"), 1),
        (("sessions", "resuming"), 1),
        (("sessions", "starting"), 0),
        (("sessions_started_total",), 11),
        (("sessions_ended_total", "gone"), 16),
        (("sessions_ended_total", "denied"), 17),
        (("sessions_ended_total", "stopped"), 0),
        (("session_start_failures_total", "throttled"), 18),
        (("session_start_failures_total", "target"), 0),
        (("reconnects_total", "resume"), 12),
        (("reconnects_total", "restart"), 13),
        (("retransmissions_total",), 14),
        (("duplicates_total",), 15),
        (("session_start_seconds_count",), 2),
        (("session_start_seconds_sum",), 4.5),
        (("session_start_seconds_bucket", "2.0"), 1),
        (("stream_open_seconds_count",), 1),
        (("stream_open_seconds_bucket", "0.1"), 0),
        (("session_age_seconds",), 70.5),
        (("sessions_stalled",), 1),
        (("publication_paused",), 1),
        (("unacked_bytes",), 111),
        (("window_bytes",), 3 << 16),
        (("delivered_bytes_per_second",), 9000.0),
        (("least_rtt_seconds",), 0.01),
        (("defects_total", "probe"), 18),
        (("ready",), 1),
    ],
)
def test_every_number_is_there(name, value):
    assert samples(BUSY)[name] == value


def test_access_is_there_where_it_has_to_be_requested():
    found = samples(tunnel(access=ACCESS))
    assert found["access_granted",] == 1
    assert found["access_expiry_timestamp_seconds",] == 1_800_000_000
    missing = replace(ACCESS, granted=False, expires_at=None)
    found = samples(tunnel(access=missing))
    assert found["access_granted",] == 0
    assert ("access_expiry_timestamp_seconds",) not in found
    assert ("access_granted",) not in samples(tunnel())


def test_a_bastion_that_sleeps_is_told():
    asleep = replace(BASTION, phase="asleep", state="stopped")
    assert samples(tunnel(bastion=asleep))["bastion_awake",] == 0
    assert samples(tunnel(bastion=BASTION))["bastion_awake",] == 1
    assert ("bastion_awake",) not in samples(tunnel())


def test_an_audit_log_tells_what_it_has_lost():
    assert samples(audit=audit(lost=7))["audit_lost_lines_total",] == 7
    assert ("audit_lost_lines_total",) not in samples()


def test_a_disabled_tunnel_has_no_metrics_that_an_alert_could_be_about():
    text, _ = scrape(tunnel(), tunnel("off", "disabled"))
    assert 'tunnel="db"' in text
    assert 'tunnel="off"' not in text
    assert "disabled" not in text


def test_a_tunnel_is_in_one_state():
    for state in set(TunnelState) - {TunnelState.DISABLED}:
        found = samples(tunnel(state=state.value))
        assert [n[1] for n, v in found.items() if n[0] == "tunnel_state" and v] == [
            state.value
        ]


def test_what_is_unknown_is_not_there():
    found = samples(tunnel())
    assert ("rtt_seconds",) not in found
    assert ("session_age_seconds",) not in found
    assert ("delivered_bytes_per_second",) not in found
    assert ("least_rtt_seconds",) not in found
    assert ("probe_up",) not in found
    unknown = ProbeStatus("tcp", None, True, "", "", 0, None)
    assert ("probe_up",) not in samples(tunnel(probe=unknown))


def test_a_daemon_that_is_not_ready_says_so():
    assert samples(tunnel(state="waiting"))["ready",] == 0
    assert samples(tunnel(), draining=True)["ready",] == 0


def test_a_file_that_was_rejected_says_so():
    assert samples(tunnel())["config_last_reload_successful",] == 1
    found = samples(tunnel(), config_error="line 3: no such key")
    assert found["config_last_reload_successful",] == 0


def test_the_build_and_the_process_are_there():
    text, kind = scrape()
    assert f'version="{__version__}"' in text
    assert "process_resident_memory_bytes" in text
    assert kind.startswith("text/plain")


def test_openmetrics_is_there_for_whoever_asks_for_it():
    text, kind = scrape(BUSY, accept="application/openmetrics-text; version=1.0.0")
    assert kind.startswith("application/openmetrics-text")
    assert text.endswith("# EOF\n")


def test_labels_are_names_of_tunnels_and_words_that_the_source_knows():
    text, _ = scrape(BUSY)
    labels = set(re.findall(r"[{,]([a-z]+)=", text))
    words = {"tunnel", "state", "result", "rule", "reason", "phase", "kind", "le"}
    assert labels == words | {"version", "python", "compartment"}
    assert "i-0123456789abcdef0" not in text
    assert "s-1" not in text


def test_promtool_has_nothing_to_complain_of():
    check_metrics(scrape(BUSY, tunnel("lazy", "idle"))[0])


WHO = identity(expires_at=2e9, login_ends_at=1.9e9, renewed=3, failed=2)


def test_credentials_have_an_end_and_a_history():
    found = samples(BUSY, identities=(WHO,))
    assert found["credentials_expiry_timestamp_seconds", "prod"] == 2e9
    assert found["login_expiry_timestamp_seconds", "prod"] == 1.9e9
    assert found["credentials_refreshes_total", "prod", "renewed"] == 3
    assert found["credentials_refreshes_total", "prod", "failed"] == 2


def test_one_login_in_two_regions_is_one_series():
    again = identity(expires_at=1.8e9, renewed=4)
    text, _ = scrape(BUSY, identities=(WHO, again))
    found = samples(BUSY, identities=(WHO, again))
    assert text.count("credentials_expiry_timestamp_seconds{") == 1
    assert found["credentials_expiry_timestamp_seconds", "prod"] == 1.8e9
    assert found["login_expiry_timestamp_seconds", "prod"] == 1.9e9
    assert found["credentials_refreshes_total", "prod", "renewed"] == 7


def test_keys_without_an_end_have_no_time():
    found = samples(BUSY, identities=(identity(),))
    assert ("credentials_expiry_timestamp_seconds", "prod") not in found
    assert found["credentials_refreshes_total", "prod", "failed"] == 0


def test_the_manual_lists_every_metric_with_its_type_and_labels():
    granted = replace(BUSY, access=ACCESS, bastion=BASTION)
    text, _ = scrape(granted, identities=(WHO,), audit=audit())
    exposed = {}
    for family in text_string_to_metric_families(text):
        if family.name.startswith("process_"):
            continue
        name = family.name + ("_total" if family.type == "counter" else "")
        names = {n for s in family.samples for n in s.labels} - {"le"}
        exposed[name] = (family.type, names)
    manual = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
    rows = re.findall(
        r"^\| `(ssmtunneld_\w+)` \| (\w+) \|([^|]*)\|", manual, re.MULTILINE
    )
    documented = {n: (kind, set(re.findall(r"`(\w+)`", ls))) for n, kind, ls in rows}
    assert documented == exposed
