"""kubectl in the context that ``ssmtunneld kubeconfig`` writes, and in no other.

::

    kubectl -> ssmtunneld run -> ssmtunneld emulator -> an API server in this process

EKS is scripted. The API server speaks TLS with a certificate that has the endpoint's
real name alone, and knows clients by their tokens.
"""

import base64
import json
import os
import shutil
import ssl
import subprocess
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
import yaml

from tests.aws.stub import Stub
from tests.interop.certificates import certify
from tests.interop.conftest import TARGET, _command, _need, run_emulator
from tests.interop.programs import (
    aws_environment,
    run,
)
from tests.support.ports import free_port

HOST = "0a1b2c.gr7.eu-west-1.eks.amazonaws.com"
TOKEN = "k8s-aws-v1.of-the-stand-in"
VERSION = {"major": "1", "minor": "32", "gitVersion": "v1.32.3-eks-of-a-test"}
NODE = {
    "apiVersion": "v1",
    "kind": "Node",
    "metadata": {"name": "ip-10-0-0-7", "creationTimestamp": "2026-01-01T00:00:00Z"},
}
NODES = {"name": "nodes", "kind": "Node", "namespaced": False, "verbs": ["list"]}
ANSWERS = {
    "/version": VERSION,
    "/livez": "ok",
    "/api": {"kind": "APIVersions", "versions": ["v1"]},
    "/apis": {"kind": "APIGroupList", "apiVersion": "v1", "groups": []},
    "/api/v1": {"kind": "APIResourceList", "groupVersion": "v1", "resources": [NODES]},
    "/api/v1/nodes": {"kind": "NodeList", "apiVersion": "v1", "items": [NODE]},
}
PATIENCE = 60
ROOT = Path(__file__).parents[2]
PLUGIN = f"""\
#!/bin/sh
echo "$@" >>"$ASKED"
cat <<END
{{"apiVersion": "client.authentication.k8s.io/v1beta1", "kind": "ExecCredential",
  "spec": {{}}, "status": {{"token": "{TOKEN}"}}}}
END
"""


class _QuietServer(ThreadingHTTPServer):
    def handle_error(self, *_):
        """Say nothing: clients that do not believe in it leave in a handshake."""


class ApiServer:
    """As much of a cluster as these tests ask for.

    Attributes:
        names: What its clients called it when they began TLS.
        tokens: What they said to be known by.
    """

    def __init__(self, certificates):
        self.names, self.tokens = set(), set()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificates.own, certificates.key)
        context.sni_callback = lambda _socket, name, _context: self.names.add(name)
        self._server = _QuietServer(("127.0.0.1", 0), self._handler())
        # The handshake is for each connection's own thread.
        self._server.socket = context.wrap_socket(
            self._server.socket, server_side=True, do_handshake_on_connect=False
        )
        self.port = self._server.server_port
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    def close(self):
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _handler(server):  # noqa: N805 - the handler below has a self of its own
        class Handler(BaseHTTPRequestHandler):
            timeout = PATIENCE

            def do_GET(self):
                server.tokens.add(self.headers["Authorization"])
                body = ANSWERS.get(urlsplit(self.path).path)
                data = (body if isinstance(body, str) else json.dumps(body)).encode()
                self.send_response(200 if body else 404)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_):
                pass

        return Handler


@contextmanager
def api_server(name, folder):
    """Run an API server that is called ``name``; yield it and its authority's file."""
    certificates = certify(name, folder)
    server = ApiServer(certificates)
    try:
        yield server, certificates.ca
    finally:
        server.close()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """A cluster behind the right name, and its authority's file."""
    with api_server(HOST, tmp_path_factory.mktemp("cluster")) as found:
        yield found


@pytest.fixture(scope="module")
def emulator():
    """An agent that finds the endpoint here."""
    with run_emulator({HOST: "127.0.0.1"}) as running:
        yield running


@pytest.fixture(scope="module")
def eks(cluster):
    """Answer DescribeCluster for the cluster ``prod``."""
    server, authority = cluster
    stub = Stub()
    data = base64.b64encode(authority.read_bytes()).decode()
    found = {
        "name": "prod",
        "status": "ACTIVE",
        # Only a client that comes through a proxy needs the port, and sees it.
        "endpoint": f"https://{HOST.upper()}:{server.port}",
        "certificateAuthority": {"data": data},
    }
    stub.answer("GET /clusters/prod", {"cluster": found})
    yield stub
    stub.close()


@pytest.fixture(scope="module")
def environ(emulator, eks, tmp_path_factory):
    """The environment of all programs; ``aws`` in it is a stand-in of ours."""
    _need("kubectl")
    home = tmp_path_factory.mktemp("home")
    plugin = home / "bin" / "aws"
    plugin.parent.mkdir()
    plugin.write_text(PLUGIN)
    plugin.chmod(0o700)
    return {
        **aws_environment(emulator.endpoint),
        "AWS_ENDPOINT_URL_EKS": eks.url,
        "NO_PROXY": "*",
        "HOME": str(home),
        "XDG_STATE_HOME": str(home / "state"),
        "ASKED": str(home / "asked"),
        "PATH": f"{plugin.parent}{os.pathsep}{os.environ['PATH']}",
    }


@pytest.fixture(scope="module")
def source(daemon, environ, cluster):
    """The configuration of a daemon that runs: a tunnel by name, and a proxy."""
    server, _ = cluster
    local, socks = free_port(), free_port()
    text = f"""\
[defaults]
target = "{TARGET}"
[tunnels.k8s]
listen = "127.0.0.1:{local}"
cluster = "prod"
port = {server.port}
[tunnels.socks]
listen = "127.0.0.1:{socks}"
mode = "socks5"
destinations = ["*.eks.amazonaws.com:*"]
"""
    kept = ("AWS_ENDPOINT_URL_EKS", "NO_PROXY", "HOME", "XDG_STATE_HOME")
    program = daemon(text, **{key: environ[key] for key in kept})
    return Path(program.argv[-1])


@pytest.fixture
def kubeconfig(source, environ, tmp_path):
    """Return a function that writes a context into a file of its own."""
    path = tmp_path / "kubeconfig"
    environ = {**environ, "KUBECONFIG": str(path)}

    def write(name, *options):
        words = (name, "-c", source, "--write", *options)
        run(*_command("kubeconfig", *words), env=environ)
        return environ

    write.path = path
    return write


def kubectl(*words, environ):
    return subprocess.run(
        ["kubectl", *words],
        env=environ,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


def test_kubectl_talks_to_the_cluster_by_its_real_name(kubeconfig, cluster):
    server, _ = cluster
    server.names.clear()
    server.tokens.clear()
    environ = kubeconfig("k8s")
    done = kubectl("version", "-o", "json", environ=environ)
    assert done.returncode == 0, done.stderr
    assert (
        json.loads(done.stdout)["serverVersion"]["gitVersion"] == VERSION["gitVersion"]
    )
    assert kubectl("get", "--raw", "/livez", environ=environ).stdout == "ok"
    assert server.names == {HOST}
    assert server.tokens == {f"Bearer {TOKEN}"}
    asked = set(Path(environ["ASKED"]).read_text().splitlines())
    wanted = "--region eu-west-1 eks get-token --cluster-name prod --output json"
    assert asked == {wanted}


def test_through_socks_the_endpoint_itself_is_asked(kubeconfig, cluster):
    server, _ = cluster
    server.names.clear()
    environ = kubeconfig("socks", "--cluster-name", "prod")
    done = kubectl("get", "--raw", "/livez", environ=environ)
    assert (done.returncode, done.stdout) == (0, "ok"), done.stderr
    assert server.names == {HOST}


def test_a_server_of_another_name_is_not_believed(kubeconfig, daemon, tmp_path):
    """As a cluster is, or whoever sits at its address, that has not this name."""
    with api_server("other.example.com", tmp_path) as (stranger, authority):
        local = free_port()
        daemon(
            f'[tunnels.k8s]\nlisten = "127.0.0.1:{local}"\ntarget = "{TARGET}"\n'
            f"port = {stranger.port}\n"
        )
        environ = kubeconfig("k8s")
        whole = yaml.safe_load(kubeconfig.path.read_text())
        (entry,) = whole["clusters"]
        data = base64.b64encode(authority.read_bytes()).decode()
        entry["cluster"]["server"] = f"https://127.0.0.1:{local}"
        entry["cluster"]["certificate-authority-data"] = data
        kubeconfig.path.write_text(yaml.safe_dump(whole))
        done = kubectl("get", "--raw", "/livez", environ=environ)
        assert done.returncode != 0
        assert f"not {HOST}" in done.stderr
        assert stranger.tokens == set()


def test_what_kubectl_has_written_stays_and_ours_is_renewed(kubeconfig):
    environ = kubeconfig("k8s")
    for words in (
        "set-cluster home --server=https://10.0.0.1",
        "set-credentials me --token=theirs",
        "set-context home --cluster=home --user=me",
        "set-context k8s --namespace=orders",
        "use-context home",
    ):
        done = kubectl("config", *words.split(), environ=environ)
        assert done.returncode == 0, done.stderr
    before = yaml.safe_load(kubeconfig.path.read_text())
    with kubeconfig.path.open("a") as file:
        file.write("# the end\n")
    kubeconfig("k8s")
    assert kubeconfig.path.read_text().endswith("# the end\n")
    after = yaml.safe_load(kubeconfig.path.read_text())
    assert after["current-context"] == "home"
    named = {each["name"]: each for each in after["contexts"]}
    assert named["k8s"]["context"]["namespace"] == "orders"
    for section in ("clusters", "contexts", "users"):
        theirs = [each for each in before[section] if each["name"] != "k8s"]
        assert [each for each in after[section] if each["name"] != "k8s"] == theirs
    done = kubectl("--context", "k8s", "get", "--raw", "/livez", environ=environ)
    assert (done.returncode, done.stdout) == (0, "ok"), done.stderr
    done = kubectl("config", "get-contexts", "-o", "name", environ=environ)
    assert done.stdout.split() == ["home", "k8s"]


def test_connect_takes_the_context_that_was_written(kubeconfig, source):
    environ = kubeconfig("k8s")
    words = ("connect", "k8s", "-c", source, "--", "get", "--raw", "/livez")
    assert run(*_command(*words), env=environ) == "ok"


def test_the_aws_cli_makes_the_tokens(kubeconfig, cluster):
    """The real one: that of tests/interop/install-clients, or one that is here."""
    clients = Path(os.environ.get("SSMTUNNELD_CLIENTS", ROOT / ".clients")).resolve()
    path = os.pathsep.join([str(clients / "awscli" / "bin"), os.environ["PATH"]])
    if shutil.which("aws", path=path) is None:
        pytest.skip("not installed: aws")
    server, _ = cluster
    server.tokens.clear()
    environ = {**kubeconfig("k8s"), "PATH": path}
    done = kubectl("get", "--raw", "/livez", environ=environ)
    assert (done.returncode, done.stdout) == (0, "ok"), done.stderr
    (said,) = server.tokens
    text = said.removeprefix("Bearer k8s-aws-v1.")
    url = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode()
    assert parse_qs(urlsplit(url).query)["Action"] == ["GetCallerIdentity"]
