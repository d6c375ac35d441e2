"""``contrib/``: alerts and a dashboard that name metrics which there are."""

import itertools
import json
import re

import pytest
import yaml

from ssmtunneld.observe.status import TunnelState
from tests.packaging.container import ROOT
from tests.packaging.dashboard import DASHBOARD, SCHEMA_VERSION, WIDTH, text
from tests.support.promtool import promtool

FOLDER = ROOT / "contrib" / "prometheus"
RULES = FOLDER / "alerts.yml"
TESTS = FOLDER / "alerts.test.yml"
MANUAL = (ROOT / "docs" / "metrics.md").read_text("utf-8")
ROW = re.compile(r"^\| `(ssmtunneld_\w+)` \| (\w+) \|([^|]*)\|(.*)$", re.MULTILINE)
# Of Prometheus itself, and of the metrics of every process.
OTHERS = {"up", "process_cpu_seconds_total", "process_resident_memory_bytes"}
ADDED = {"job", "instance"}
DEFECTS = "ssmtunneld_defects_total"
LINK = "https://github.com/ssmtunneld/ssmtunneld/blob/main/"

(GROUP,) = yaml.safe_load(RULES.read_text("utf-8"))["groups"]
ALERTS = {rule["alert"]: rule for rule in GROUP["rules"]}


def code(cell):
    """Return the words in backticks."""
    return set(re.findall(r"`([^`]+)`", cell))


def documented():
    """Return the series of the manual, with their labels and the words for values."""
    found = {}
    for name, kind, labels, meaning in ROW.findall(MANUAL):
        words = code(meaning) | {state.value for state in TunnelState}
        found[name] = (code(labels), words)
        if kind == "histogram":
            found[f"{name}_bucket"] = (code(labels) | {"le"}, words)
    return found


SERIES = documented()
PANELS = [p for p in json.loads(text())["panels"] if p["type"] != "row"]
EXPRESSIONS = [t["expr"] for panel in PANELS for t in panel["targets"]]
SELECTORS = re.compile(r"\b(ssmtunneld_\w+)(?:\{([^}]*)\})?")
MATCHERS = re.compile(r'(\w+)\s*(?:=~|!=|!~|=)\s*"([^"]*)"')


def expand(expression):
    """Return the expression with Grafana's variables filled in."""
    chosen = re.sub(r"\$(job|instance|tunnel)\b", ".*", expression)
    return chosen.replace("$__rate_interval", "5m")


@pytest.mark.parametrize("path", [RULES, TESTS, DASHBOARD], ids=lambda path: path.name)
def test_every_metric_that_is_named_exists(path):
    # Of a selector's labels, those of the manual or of Prometheus; of fixed values, the
    # manual's words for them.
    asked = path.read_text("utf-8")
    if path == DASHBOARD:
        asked = "\n".join([*EXPRESSIONS, *queries_of_variables()])
    elif path == RULES:
        asked = "\n".join(rule["expr"] for rule in ALERTS.values())
    found = SELECTORS.findall(asked)
    assert found
    for name, selector in found:
        assert name in SERIES, name
        labels, words = SERIES[name]
        for label, value in MATCHERS.findall(selector):
            assert label in labels | ADDED, f"{name} has no label {label}"
            if path != TESTS or label not in {*ADDED, "tunnel", "identity"}:
                known = {v for v in value.split("|") if not v.startswith("$")}
                assert known <= words, f"{name}: {value}"


def queries_of_variables():
    """Return what the dashboard's variables ask for."""
    variables = json.loads(text())["templating"]["list"]
    return [v["query"]["query"] for v in variables if v["type"] == "query"]


def test_every_label_that_is_grouped_by_or_shown_exists():
    known = {label for labels, _ in SERIES.values() for label in labels} | ADDED
    legends = [t["legendFormat"] for panel in PANELS for t in panel["targets"]]
    alerts = [rule["expr"] for rule in ALERTS.values()]
    notes = [n for rule in ALERTS.values() for n in rule["annotations"].values()]
    asked = "\n".join([*EXPRESSIONS, *alerts])
    for group in re.findall(r"\b(?:by|on) \(([^)]*)\)", asked):
        assert set(group.split(", ")) <= known
    assert set(re.findall(r"\{\{(\w+)\}\}", "\n".join(legends))) <= known
    assert set(re.findall(r"\$labels\.(\w+)", "\n".join(notes))) <= known


def test_other_peoples_metrics_are_those_that_there_are():
    asked = "\n".join([*EXPRESSIONS, *(rule["expr"] for rule in ALERTS.values())])
    others = re.findall(r"\b(\w+)\{", asked)
    assert {name for name in others if not name.startswith("ssmtunneld_")} == OTHERS


def test_promtool_takes_the_alerts():
    result = promtool("check", "rules", RULES)
    assert result.returncode == 0, result.stderr
    assert f"{len(ALERTS)} rules found" in result.stdout


def test_the_alerts_do_as_their_own_tests_say():
    result = promtool("test", "rules", TESTS)
    assert result.returncode == 0, result.stderr + result.stdout


def test_the_tests_of_the_alerts_notice_each_that_is_missing(tmp_path):
    other = {"record": "other", "expr": "vector(1)"}
    (tmp_path / RULES.name).write_text(
        yaml.safe_dump({"groups": [{**GROUP, "rules": [other]}]})
    )
    (tmp_path / TESTS.name).write_text(TESTS.read_text("utf-8"))
    result = promtool("test", "rules", tmp_path / TESTS.name)
    assert result.returncode != 0
    said = result.stdout + result.stderr
    assert [name for name in ALERTS if name not in said] == []


def test_an_alert_says_what_to_do_and_where_to_read_on():
    assert len(ALERTS) == len(GROUP["rules"])
    for rule in ALERTS.values():
        assert rule["labels"]["severity"] in {"critical", "warning"}
        assert {*rule["annotations"]} == {"summary", "description", "runbook_url"}
        address = rule["annotations"]["runbook_url"]
        assert address.startswith(LINK)
        page, _, anchor = address.removeprefix(LINK).partition("#")
        read = (ROOT / page).read_text("utf-8")
        headings = re.findall(r"^#+ (.+)$", read, re.MULTILINE)
        anchors = {heading.lower().replace(" ", "-") for heading in headings}
        anchors |= set(re.findall(r'<a id="([^"]+)">', read))
        assert anchor in {"", *anchors}


def test_the_manual_lists_the_alerts_with_their_severity():
    rows = re.findall(r"^\| `(Ssmtunneld\w+)` \| (\w+) \|", MANUAL, re.MULTILINE)
    assert rows == [(name, rule["labels"]["severity"]) for name, rule in ALERTS.items()]


def test_the_dashboard_is_what_its_table_makes():
    assert DASHBOARD.read_text("utf-8") == text(), "run: make dashboard"


def test_promtool_takes_the_dashboards_expressions(tmp_path):
    rules = [
        {"record": f"panel:{number}", "expr": expand(expression)}
        for number, expression in enumerate(EXPRESSIONS)
    ]
    path = tmp_path / "rules.yml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    result = promtool("check", "rules", path)
    assert result.returncode == 0, result.stderr
    assert "$" not in path.read_text()


def test_every_panel_follows_what_is_chosen_above():
    variables = {v["name"] for v in json.loads(text())["templating"]["list"]}
    assert variables == {"datasource", "job", "instance", "tunnel"}
    for panel in PANELS:
        assert panel["datasource"]["uid"] == "${datasource}"
        for target in panel["targets"]:
            assert target["datasource"] == panel["datasource"]
            for name, selector in SELECTORS.findall(target["expr"]):
                chosen = {label for label, value in MATCHERS.findall(selector)}
                assert (
                    SERIES[name][0] & {"tunnel"} <= chosen
                    or "compartment" in (SERIES[name][0])
                )
                assert chosen >= ADDED


def test_panels_have_numbers_and_places_of_their_own():
    whole = json.loads(text())
    assert whole["schemaVersion"] == SCHEMA_VERSION
    panels = whole["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    places = [panel["gridPos"] for panel in panels]
    assert all(p["x"] >= 0 and p["x"] + p["w"] <= WIDTH for p in places)
    for one, other in itertools.combinations(places, 2):
        beside = (
            one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        )
        above = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        assert beside or above, (one, other)
