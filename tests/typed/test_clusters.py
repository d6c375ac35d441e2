"""docs/tasks/clusters.md, typed."""

import base64

from ssmtunneld.config import load_config
from ssmtunneld.emulator.settings import Node
from tests.aws.stub import Stub
from tests.interop.conftest import _need
from tests.interop.test_interop_kubectl import HOST, PLUGIN, api_server
from tests.support import moto
from tests.support.ports import free_port
from tests.typed.page import plays

PAGE = "docs/tasks/clusters.md"
NODES = {"i-0182d91e85d69cf00": Node(tags={"Role": "bastion"})}


@plays(PAGE)
def test_kubectl_lists_the_nodes(script, on_stage, tmp_path):
    _need("kubectl")
    local = free_port()
    with api_server(HOST, tmp_path) as (server, authority), moto.running() as cloud:
        replaced = {
            "127.0.0.1:8443": f"127.0.0.1:{local}",
            'cluster = "prod"': f'cluster = "prod"\nport = {server.port}',
        }
        settings = {"nodes": NODES, "host_aliases": {HOST: "127.0.0.1"}}
        eks, data = described(authority)
        try:
            with on_stage(replaced, **settings) as (_, stage):
                stage.environ["ASKED"] = str(stage.home / "asked")
                stage.program("aws", PLUGIN.partition("\n")[2])
                stage.profiles("prod")
                discover(script, stage, cloud)
                stage.environ["AWS_ENDPOINT_URL_EKS"] = eks.url
                path = stage.write(script.block())
                assert 'cluster = "prod"' in path.read_text()
                play(script, stage, server, data)
        finally:
            eks.close()


def discover(script, stage, cloud):
    """Let the cluster be found, where moto has it, though not its VPC."""
    eks = cloud.client("eks")
    eks.create_cluster(
        name="prod",
        roleArn="arn:aws:iam::123456789012:role/prod",
        resourcesVpcConfig={"subnetIds": ["subnet-0123456789abcdef0"]},
    )
    eks.close()
    stage.write('[defaults]\ntarget = "tag:Role=bastion"\n')
    before = stage.environ
    stage.environ = {**before, "AWS_ENDPOINT_URL": cloud.url}
    stage.run(
        script.words("ssmtunneld add prod --from-discover prod --listen 127.0.0.1:8443")
    )
    stage.environ = before
    (added,) = load_config(stage.folder / "config.toml", {}).tunnels
    assert added.cluster == "prod"


def described(authority):
    """Return EKS with the cluster ``prod``, and its certificate as it is there."""
    data = base64.b64encode(authority.read_bytes()).decode()
    stub = Stub()
    cluster = {
        "name": "prod",
        "status": "ACTIVE",
        "endpoint": f"https://{HOST}",
        "certificateAuthority": {"data": data},
    }
    stub.answer("GET /clusters/prod", {"cluster": cluster})
    return stub, data


def play(script, stage, server, data):
    with stage.daemon():
        stage.run(script.next("ssmtunneld kubeconfig prod --write").text)
        kubeconfig = stage.home / ".kube" / "config"
        shown = stage.here(script.page.block("What is written", "yaml"))
        assert kubeconfig.read_text().replace(data, "LS0tLS1CRUdJTi...") == shown
        assert kubeconfig.stat().st_mode & 0o777 == 0o600

        done = stage.run(script.next("kubectl --context prod get nodes").text)
        assert "ip-10-0-0-7" in done.stdout
        assert server.names == {HOST}
        done = stage.run(script.next("kubectl config use-context prod").text)
        assert '"prod"' in done.stdout

        stage.run(script.words("ssmtunneld kubeconfig prod > prod.yaml"))
        assert (stage.home / "prod.yaml").read_text() == kubeconfig.read_text()
        done = stage.run(script.words("KUBECONFIG=prod.yaml kubectl get nodes"))
        assert "ip-10-0-0-7" in done.stdout
    # With a daemon for as long as it takes.
    done = stage.run(script.words("ssmtunneld connect prod -- get nodes"))
    assert "ip-10-0-0-7" in done.stdout
    done = stage.run(script.words("ssmtunneld doctor prod"), code=None)
    assert "prod" in done.stdout
