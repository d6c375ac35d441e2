"""``deploy/chart``: values that fit the schema and the program, and the plain files.

`packaging/lint` renders it with Helm, and needs a network.
"""

import json

import jsonschema
import pytest
import yaml

from ssmtunneld.config import load_config
from ssmtunneld.version import __version__
from tests.packaging.container import ROOT, of

CHART = ROOT / "deploy" / "chart"
PLAIN = ROOT / "docs" / "kubernetes" / "deployment.yaml"


def read(name):
    """Return a file of the chart as data."""
    return yaml.safe_load((CHART / name).read_text())


@pytest.fixture
def values():
    return read("values.yaml")


@pytest.fixture
def schema():
    return json.loads((CHART / "values.schema.json").read_text())


def refuses(schema, values):
    """Return true if the schema does not take the values."""
    return not jsonschema.Draft7Validator(schema).is_valid(values)


def test_the_chart_is_of_this_version():
    chart = read("Chart.yaml")
    assert (chart["version"], chart["appVersion"]) == (__version__, __version__)


def test_the_schema_takes_the_values_and_knows_each_of_them(values, schema):
    jsonschema.Draft7Validator.check_schema(schema)
    jsonschema.validate(values, schema)
    assert {*schema["properties"]} == {*values, "global"}
    for key, below in schema["properties"].items():
        if below.get("additionalProperties") is False:
            assert {*below["properties"]} == {*values[key]}


@pytest.mark.parametrize(
    "wrong",
    [
        {"replica": 3},
        {"ports": []},
        {"ports": [{"name": "http", "port": 80}]},
        {"ports": [{"name": "a", "port": 9300}]},
        {"ports": [{"name": "longer-than-a-port", "port": 80}]},
        {"terminationGracePeriodSeconds": 20},
        {"serviceAccount": {"roleArn": "ssmtunneld"}},
        {"image": {"repository": "x", "digest": "latest"}},
    ],
    ids=str,
)
def test_the_schema_refuses_what_cannot_work(values, schema, wrong):
    assert refuses(schema, values | wrong)


def test_the_configuration_can_be_used_and_every_tunnel_has_a_port(values, tmp_path):
    path = tmp_path / "config.toml"
    path.write_text(values["config"])
    config = load_config(path, {})
    ports = {each["name"]: each["port"] for each in values["ports"]}
    assert ports == {t.name: t.listen[0].port for t in config.tunnels}
    (http,) = config.daemon.http_listen
    assert of("EXPOSE") == [str(http.port)]
    grace = values["terminationGracePeriodSeconds"]
    assert grace >= 5 + config.daemon.drain_timeout + 15


def test_the_pod_is_that_of_the_plain_files():
    template = (CHART / "templates" / "deployment.yaml").read_text()
    plain = PLAIN.read_text()
    probes = plain.partition("# The listeners")[2].partition("          resources:")[0]
    assert "preStop" in probes
    assert probes in template
    for line in (
        "runAsNonRoot: true",
        "runAsUser: 65532",
        "automountServiceAccountToken: false",
        "type: RuntimeDefault",
        "readOnlyRootFilesystem: true",
        "allowPrivilegeEscalation: false",
        "drop: [ALL]",
        "args: [run, --config, /etc/ssmtunneld/config.toml]",
        "mountPath: /run/ssmtunneld",
    ):
        assert line in plain
        assert line in template


def test_the_autoscaler_asks_for_a_metric_that_there_is(values):
    metrics = (ROOT / "docs" / "metrics.md").read_text()
    assert f"| `{values['autoscaling']['metric']}` | gauge |" in metrics
    assert values["autoscaling"]["metric"] in (ROOT / "docs/kubernetes.md").read_text()
