"""``docs/kubernetes``: files that fit each other, the image and the program."""

import tomllib

import pytest
import yaml

from ssmtunneld.config import load_config
from tests.packaging.container import ROOT, of

FOLDER = ROOT / "docs" / "kubernetes"
PATHS = {
    "startupProbe": {"/startupz", "/readyz"},
    "livenessProbe": {"/livez"},
    "readinessProbe": {"/readyz"},
}


def documents(name):
    """Return the objects in a file by their kinds."""
    with (FOLDER / name).open() as file:
        return {each["kind"]: each for each in yaml.safe_load_all(file)}


def everything():
    """Return all objects of all files that ``kubectl apply -k`` takes."""
    names = documents("kustomization.yaml")["Kustomization"]["resources"]
    found = {}
    for name in names:
        found |= documents(name)
    return found


FORMS = {"deployment": everything(), "sidecar": documents("sidecar.yaml")}
form = pytest.mark.parametrize("objects", FORMS.values(), ids=FORMS)


def pod(objects):
    """Return the pod's specification."""
    return objects["Deployment"]["spec"]["template"]["spec"]


def containers(objects):
    """Return all containers of the pod."""
    return [*pod(objects).get("initContainers", []), *pod(objects)["containers"]]


def ours(objects):
    """Return the container with the daemon."""
    (found,) = [c for c in containers(objects) if c["name"] == "ssmtunneld"]
    return found


def configuration(objects, tmp_path):
    """Return the configuration in the ConfigMap, as the program reads it."""
    (text,) = objects["ConfigMap"]["data"].values()
    path = tmp_path / "config.toml"
    path.write_text(text)
    return load_config(path, {})


def port_of(address):
    """Return the port of an address."""
    return address.port


def test_every_file_is_applied_or_stands_alone():
    listed = documents("kustomization.yaml")["Kustomization"]["resources"]
    alone = {"kustomization.yaml", "sidecar.yaml"}
    assert {path.name for path in FOLDER.iterdir()} == {*listed} | alone
    text = (ROOT / "docs" / "kubernetes.md").read_text()
    assert all(f"(kubernetes/{name})" in text for name in {*listed, "sidecar.yaml"})


@form
def test_the_configuration_can_be_used(objects, tmp_path):
    config = configuration(objects, tmp_path)
    assert config.tunnels
    grace = pod(objects)["terminationGracePeriodSeconds"]
    sleep = ours(objects).get("lifecycle", {}).get("preStop", {}).get("exec", {})
    before = int(sleep["command"][1]) if sleep else 0
    assert grace >= before + config.daemon.drain_timeout + 15


@form
def test_every_tunnel_has_a_port_of_its_own_in_the_pod(objects, tmp_path):
    config = configuration(objects, tmp_path)
    ports = {p["name"]: p["containerPort"] for p in ours(objects)["ports"]}
    assert all(len(name) <= 15 for name in ports)
    (http,) = config.daemon.http_listen
    assert port_of(http) in ports.values()
    assert of("EXPOSE") == [str(port_of(http))]
    for tunnel in config.tunnels:
        (address,) = tunnel.listen
        if str(address).startswith("127."):
            continue  # of this pod alone
        assert ports[tunnel.name] == port_of(address)


def test_the_service_leads_to_the_tunnels(tmp_path):
    objects = FORMS["deployment"]
    config = configuration(objects, tmp_path)
    service = objects["Service"]["spec"]
    found = {p["name"]: (p["port"], p["targetPort"]) for p in service["ports"]}
    assert found == {
        tunnel.name: (port_of(tunnel.listen[0]), tunnel.name)
        for tunnel in config.tunnels
    }
    labels = objects["Deployment"]["spec"]["template"]["metadata"]["labels"]
    assert service["selector"].items() <= labels.items()


@form
def test_names_refer_to_what_is_there(objects):
    deployment = objects["Deployment"]["spec"]
    labels = deployment["template"]["metadata"]["labels"]
    assert deployment["selector"]["matchLabels"].items() <= labels.items()
    account = FORMS["deployment"]["ServiceAccount"]["metadata"]["name"]
    assert pod(objects)["serviceAccountName"] == account
    volumes = {v["name"]: v for v in pod(objects)["volumes"]}
    mounts = {m["name"]: m["mountPath"] for m in ours(objects)["volumeMounts"]}
    assert {*mounts} == {*volumes}
    name = objects["ConfigMap"]["metadata"]["name"]
    assert volumes["config"]["configMap"]["name"] == name
    folder, file = ours(objects)["args"][-1].rsplit("/", 1)
    assert mounts["config"] == folder
    assert [*objects["ConfigMap"]["data"]] == [file]
    # Where the image lets the daemon write.
    assert f"STATE_DIRECTORY={mounts['state']}" in of("ENV")[0]


@form
def test_the_probes_ask_what_there_is_to_ask(objects):
    served = (ROOT / "ssmtunneld" / "serve" / "status_page.py").read_text()
    ports = {p["name"] for p in ours(objects)["ports"]}
    for probe, paths in PATHS.items():
        get = ours(objects)[probe]["httpGet"]
        assert get["path"] in paths
        assert f'"{get["path"]}"' in served
        assert get["port"] in ports


@form
def test_every_container_has_no_rights_and_bounds(objects):
    assert pod(objects)["securityContext"]["runAsNonRoot"]
    profile = pod(objects)["securityContext"]["seccompProfile"]
    assert profile == {"type": "RuntimeDefault"}
    assert not pod(objects)["automountServiceAccountToken"]
    for container in containers(objects):
        context = container["securityContext"]
        assert context["readOnlyRootFilesystem"]
        assert not context["allowPrivilegeEscalation"]
        assert context["capabilities"] == {"drop": ["ALL"]}
        assert {*container["resources"]["requests"]} == {"cpu", "memory"}
        assert "memory" in container["resources"]["limits"]


@form
def test_the_user_is_the_images(objects):
    (user,) = of("USER")
    merged = pod(objects)["securityContext"] | ours(objects)["securityContext"]
    assert f"{merged['runAsUser']}:{merged['runAsGroup']}" == user
    # What is projected into the pod belongs to this group.
    assert merged["fsGroup"] == merged["runAsGroup"]


def test_a_sidecar_serves_its_application_and_nobody_else():
    objects = FORMS["sidecar"]
    (application,) = pod(objects)["containers"]
    text = objects["ConfigMap"]["data"]["config.toml"]
    (tunnel,) = tomllib.loads(text)["tunnels"].values()
    assert tunnel["listen"].startswith("127.0.0.1:")
    assert tunnel["allow_users"] == [application["securityContext"]["runAsUser"]]
    # It stays, and the application waits for it.
    assert ours(objects)["restartPolicy"] == "Always"
    assert ours(objects) in pod(objects)["initContainers"]
