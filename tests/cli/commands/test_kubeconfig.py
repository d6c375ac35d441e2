"""``ssmtunneld kubeconfig`` prints or writes a context, or says what is missing."""

import base64

import pytest
import yaml

from tests.aws.conftest import stub  # noqa: F401 - this is a fixture
from tests.aws.stub import Reply, error
from tests.cli.household import Household, call, document, serving, tunnel_document
from tests.integration.world import tunnel

HOST = "0a1b2c.gr7.eu-west-1.eks.amazonaws.com"
AUTHORITY = base64.b64encode(b"-----BEGIN CERTIFICATE-----\n").decode()
ROLE = "arn:aws:iam::111122223333:role/Ops"
ANSWER = {
    "name": "prod",
    "status": "ACTIVE",
    "endpoint": f"https://{HOST.upper()}",
    "certificateAuthority": {"data": AUTHORITY},
}
ASSUMED = """\
<AssumeRoleResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/">
<AssumeRoleResult><Credentials><AccessKeyId>ASIAEXAMPLE000000000</AccessKeyId>
<SecretAccessKey>secret</SecretAccessKey><SessionToken>token</SessionToken>
<Expiration>2099-01-01T00:00:00Z</Expiration></Credentials></AssumeRoleResult>
</AssumeRoleResponse>
"""


@pytest.fixture
def eks(stub, monkeypatch):  # noqa: F811 - the way of pytest
    stub.answer("GET /clusters/prod", {"cluster": ANSWER})
    monkeypatch.setenv("AWS_ENDPOINT_URL_EKS", stub.url)
    monkeypatch.setenv("NO_PROXY", "*")
    return stub


@pytest.fixture
def run(home, eks, monkeypatch, capsys):
    """Return a function that runs the command for the tunnel ``k8s``."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE000000000")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_REGION", "KUBECONFIG"):
        monkeypatch.delenv(name, raising=False)
    profiles = home / "aws-config"
    keys = "aws_access_key_id = AKIAEXAMPLE000000001\naws_secret_access_key = secret\n"
    profiles.write_text(f"[profile ops]\nregion = us-east-2\n{keys}")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(profiles))
    path = home / "config.toml"

    def run(*options, **settings):
        given = {"listen": "127.0.0.1:8443", "region": "eu-west-1", **settings}
        kept = {key: value for key, value in given.items() if value is not None}
        path.write_text(tunnel("k8s", **kept))
        return call(capsys, "kubeconfig", "k8s", "-c", path, *options)

    return run


def printed(run, *options, **settings):
    """Return what the three entries say, and what was said beside them."""
    code, out, err = run(*options, **settings)
    assert code == 0, err
    whole = yaml.safe_load(out)
    return (
        whole["clusters"][0]["cluster"],
        whole["contexts"][0],
        whole["users"][0]["user"]["exec"],
        err,
    )


def test_a_context_leads_to_the_tunnel_and_checks_the_clusters_name(run):
    cluster, context, command, err = printed(run, cluster="prod")
    assert cluster["server"] == "https://127.0.0.1:8443"
    assert cluster["tls-server-name"] == HOST
    assert cluster["certificate-authority-data"] == AUTHORITY
    assert "proxy-url" not in cluster
    assert context["name"] == "k8s"
    assert command["command"] == "aws"
    wanted = "--region eu-west-1 eks get-token --cluster-name prod --output json"
    assert command["args"] == wanted.split()
    assert err == ""


def test_profile_and_region_are_the_tunnels(run):
    _, _, command, _ = printed(run, cluster="prod", profile="ops", region=None)
    assert command["args"][:2] == ["--region", "us-east-2"]
    assert command["args"][-2:] == ["--profile", "ops"]


def test_a_role_is_passed_on_unless_another_profile_is_named(run, eks, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", eks.url)
    eks.answer("AssumeRole", Reply(body=ASSUMED))
    _, _, command, _ = printed(run, cluster="prod", role_arn=ROLE)
    assert command["args"][-2:] == ["--role-arn", ROLE]
    settings = {"cluster": "prod", "role_arn": ROLE, "external_id": "an-id"}
    _, _, command, _ = printed(run, "--profile", "ops", **settings)
    assert command["args"][-2:] == ["--profile", "ops"]
    assert "--role-arn" not in command["args"]


def test_what_the_aws_cli_cannot_do_is_told(run):
    settings = {"cluster": "prod", "role_arn": ROLE, "external_id": "an-id"}
    code, out, err = run(**settings)
    assert (code, out) == (2, "")
    assert "get-token assumes no role with external_id, which k8s has" in err
    assert "--profile" in err


def test_the_context_may_have_another_name(run):
    _, context, _, _ = printed(run, "--context", "prod eu", cluster="prod")
    assert context["name"] == "prod eu"
    assert context["context"]["cluster"] == "prod eu"


@pytest.mark.parametrize("option", ["--context", "--profile"])
@pytest.mark.parametrize("text", ["", "a\nb", "\udcff"])
def test_no_text_is_written_that_kubectl_could_not_read(run, option, text):
    code, _, err = run(option, text, cluster="prod")
    assert (code, f"{option} should be" in err) == (2, True)


def test_a_tunnel_with_a_host_needs_the_clusters_name(run):
    code, out, err = run(host=HOST, port=443)
    assert (code, out) == (2, "")
    assert err.endswith("set cluster of the tunnel, or pass --cluster-name CLUSTER\n")
    cluster, _, _, err = printed(run, "--cluster-name", "prod", host=HOST, port=443)
    assert (cluster["tls-server-name"], err) == (HOST, "")


def test_a_host_that_is_not_the_endpoint_is_told(run):
    options = ("--cluster-name", "prod")
    cluster, _, _, err = printed(run, *options, host="proxy.internal", port=443)
    assert cluster["tls-server-name"] == HOST
    assert f"k8s leads to proxy.internal, not to {HOST}, the endpoint of prod" in err


def test_a_tunnel_has_one_cluster(run):
    printed(run, "--cluster-name", "prod", cluster="prod")
    code, _, err = run("--cluster-name", "test", cluster="prod")
    assert (code, "k8s leads to cluster prod, not to test" in err) == (2, True)


def test_through_a_proxy_the_endpoint_itself_is_named(run):
    allowed = {"destinations": ["*.eks.amazonaws.com:443"]}
    options = ("--cluster-name", "prod")
    cluster, _, _, _ = printed(run, *options, mode="socks5", **allowed)
    assert cluster["server"] == f"https://{HOST}:443"
    assert cluster["proxy-url"] == "socks5://127.0.0.1:8443"
    cluster, _, _, _ = printed(run, *options, mode="http-connect", **allowed)
    assert cluster["proxy-url"] == "http://127.0.0.1:8443"


def test_a_proxy_must_allow_the_endpoint(run):
    options = ("--cluster-name", "prod")
    code, out, err = run(*options, mode="socks5", destinations=["*.internal:443"])
    assert (code, out) == (1, "")
    assert f"k8s does not allow {HOST}:443, the endpoint of prod" in err


def test_kubectl_cannot_use_a_unix_socket(run, home):
    code, _, err = run(cluster="prod", listen=f"unix:{home}/s")
    assert (code, "add a TCP address to listen" in err) == (1, True)


def test_ipv6_is_written_in_brackets(run):
    cluster, _, _, _ = printed(run, cluster="prod", listen="[::1]:8443")
    assert cluster["server"] == "https://[::1]:8443"


def test_a_free_port_is_asked_of_the_daemon(run, home):
    bound = tunnel_document("k8s", listen=["127.0.0.1:40001"])
    config = home / "config.toml"
    config.touch()
    operator = Household(document(bound, config=str(config)))
    with serving(operator, config):
        cluster, _, _, _ = printed(run, cluster="prod", listen="127.0.0.1:0")
    assert cluster["server"] == "https://127.0.0.1:40001"


def test_a_cluster_without_certificates_is_told(run, eks):
    eks.answer(
        "GET /clusters/prod", {"cluster": {**ANSWER, "certificateAuthority": {}}}
    )
    code, out, err = run(cluster="prod")
    assert (code, out) == (1, "")
    assert "EKS tells no certificate authority of cluster prod" in err


def test_what_aws_refuses_is_told(run, eks):
    eks.answer("GET /clusters/prod", error("ResourceNotFoundException", "No cluster"))
    code, out, err = run(cluster="prod")
    assert (code, out) == (4, "")
    assert "DescribeCluster failed: ResourceNotFoundException: No cluster" in err


def test_writing_goes_to_the_usual_place_and_says_what_to_type(run, home):
    code, out, err = run("--write", cluster="prod")
    path = home / ".kube" / "config"
    assert (code, out) == (0, f"{path}: wrote k8s\n")
    assert err == "try: kubectl --context k8s version\n"
    assert yaml.safe_load(path.read_text())["current-context"] == "k8s"
    _, out, _ = run("--write", cluster="prod")
    assert out == f"{path}: already has k8s\n"


def test_writing_goes_to_the_first_file_of_kubeconfig(run, home, monkeypatch):
    monkeypatch.setenv("KUBECONFIG", f"{home}/one:{home}/two")
    (home / "one").write_text("users:\n- name: k8s\n  user: {}\n")
    code, out, err = run("--write", cluster="prod")
    assert (code, out) == (1, "")
    assert f"{home}/one has k8s among its users already, not from ssmtunneld" in err
    code, _, err = run("--write", "--force", cluster="prod")
    assert code == 0, err
    (user,) = yaml.safe_load((home / "one").read_text())["users"]
    assert user["user"]["exec"]["command"] == "aws"
    assert not (home / "two").exists()


def test_force_is_for_writing(run):
    code, _, err = run("--force", cluster="prod")
    assert (code, "--force has no effect without --write" in err) == (2, True)
