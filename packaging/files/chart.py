"""Check the chart with Helm itself and with Kubernetes' schemas: ``chart.py FOLDER``.

Run by ``packaging/lint``, which brings the libraries.
"""

import sys
import tempfile
from pathlib import Path

import kubernetes_validate
import yaml
from helm_python.chart import Chart, lint
from helm_python.errors import HelmError

ROLE = "arn:aws:iam::111122223333:role/ssmtunneld"
# What each one must be good for, beside the values of the chart itself.
GOOD = {
    "default": {},
    "everything": {
        "autoscaling": {"enabled": True},
        "serviceAccount": {"roleArn": ROLE, "annotations": {"a": "b"}},
        "image": {"digest": "sha256:" + "0" * 64},
        "imagePullSecrets": [{"name": "key"}],
        "env": [{"name": "A", "value": "b"}],
        "nodeSelector": {"a": "b"},
        "tolerations": [{"operator": "Exists"}],
        "networkPolicy": {
            "metricsFrom": [{"namespaceSelector": {}}],
            "extraEgress": [{"ports": [{"port": 3128}]}],
        },
    },
    "nothing": {
        "podDisruptionBudget": {"enabled": False},
        "networkPolicy": {"enabled": False},
        "serviceAccount": {"create": False},
        "podAnnotations": {},
    },
}
KINDS = {
    "default": "ConfigMap Deployment NetworkPolicy PodDisruptionBudget Service "
    "ServiceAccount",
    "everything": "ConfigMap Deployment HorizontalPodAutoscaler NetworkPolicy "
    "PodDisruptionBudget Service ServiceAccount",
    "nothing": "ConfigMap Deployment Service",
}
BAD = (
    {"replica": 3},
    {"ports": []},
    {"ports": [{"name": "http", "port": 80}]},
    {"serviceAccount": {"roleArn": "ssmtunneld"}},
    {"image": {"repository": "x", "digest": "latest"}},
    {"config": "nothing"},
)
VERSIONS = ("1.27", "1.31", "1.35")


def rendered(chart: Chart, values: dict[str, object]) -> list[dict[str, object]]:
    """Return the objects that the chart makes, after the schema of its values."""
    chart.validate_schema(values)
    texts = chart.render(values, name="tunnels", namespace="apps")
    return [
        found
        for name, text in texts.items()
        if not name.endswith(".txt")
        for found in yaml.safe_load_all(text)
        if found
    ]


def main(folder: Path) -> None:
    """Check, and end with what is wrong."""
    for name, values in GOOD.items():
        report = lint(folder, values, strict=True)
        findings = [m for m in report["messages"] if m["severity"] > 1]
        if findings or report["errors"]:
            sys.exit(f"{name}: {findings or report['errors']}")
        with Chart.load(folder) as chart:
            objects = rendered(chart, values)
        kinds = sorted(str(found["kind"]) for found in objects)
        if kinds != KINDS[name].split():
            sys.exit(f"{name}: {kinds}")
        for found in objects:
            for version in VERSIONS:
                kubernetes_validate.validate(found, version, strict=True)
        sys.stdout.write(f"{name}: {', '.join(kinds)}\n")
    for values in BAD:
        with Chart.load(folder) as chart:
            try:
                rendered(chart, values)
            except HelmError:
                continue
        sys.exit(f"accepted: {values}")
    with tempfile.TemporaryDirectory() as target, Chart.load(folder) as chart:
        sys.stdout.write(f"{Path(chart.save(target)).name}\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
