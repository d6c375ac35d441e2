"""``ssmtunneld discover`` and ``add --from-discover``: databases are moto's."""

import json

import pytest

from ssmtunneld.config import load_config
from tests.aws.stub import Stub, error
from tests.cli.household import call
from tests.integration.world import use_loopback_aws
from tests.support import moto


@pytest.fixture(scope="module")
def running_cloud():
    with moto.running() as account:
        yield account


@pytest.fixture
def cloud(running_cloud, home, monkeypatch, tmp_path):
    """An account with a database and a bastion in its VPC."""
    use_loopback_aws(monkeypatch, tmp_path)
    running_cloud.reset()
    monkeypatch.setenv("AWS_ENDPOINT_URL", running_cloud.url)
    rds = running_cloud.client("rds")
    bastion = running_cloud.launch(Name="bastion")
    found = running_cloud.describe(bastion)
    rds.create_db_subnet_group(
        DBSubnetGroupName="ours",
        DBSubnetGroupDescription="x",
        SubnetIds=[found["SubnetId"]],
    )
    rds.create_db_instance(
        DBInstanceIdentifier="orders",
        Engine="postgres",
        DBInstanceClass="db.t3.micro",
        DBSubnetGroupName="ours",
        MasterUsername="admin",
        MasterUserPassword="an-admin-password",
        Port=5432,
    )
    rds.close()
    stub = Stub()
    # moto knows nothing of the second one, and prints that.
    for service in ("SSM", "REDSHIFT_SERVERLESS"):
        monkeypatch.setenv(f"AWS_ENDPOINT_URL_{service}", stub.url)
    node = {"InstanceId": bastion, "PingStatus": "Online"}
    stub.answer("DescribeInstanceInformation", {"InstanceInformationList": [node]})
    stub.bastion = bastion
    yield stub
    stub.close()


def test_a_database_is_listed_with_the_targets_of_its_vpc(cloud, capsys):
    code, out, _ = call(capsys, "discover", "orders")
    assert code == 0
    head, titles, row = out.splitlines()
    assert head == "1 address in eu-west-1"
    assert titles.split()[:2] == ["ID", "ENGINE"]
    cells = row.split()
    assert cells[:2] == ["orders", "postgres"]
    assert cells[3].startswith("orders.")
    assert cells[4:6] == ["5432", "bastion"]


def test_json_has_the_facts_and_filters_choose(cloud, capsys):
    found = json.loads(call(capsys, "discover", "--json")[1])
    (orders,) = found["resources"]
    assert (orders["id"], orders["targets"]) == ("orders", [cloud.bastion])
    assert json.loads(call(capsys, "discover", "--json", "mysql")[1])["resources"] == []


def test_a_denied_service_is_one_line_and_no_end(cloud, monkeypatch, capsys):
    monkeypatch.setenv("AWS_ENDPOINT_URL_MEMORYDB", cloud.url)
    cloud.answer("DescribeSubnetGroups", error("AccessDeniedException", "not you"))
    code, out, err = call(capsys, "discover")
    assert (code, out.startswith("1 address in eu-west-1")) == (0, True)
    denied = [line for line in err.splitlines() if "memorydb" in line]
    assert denied == [
        "ssmtunneld: memorydb: DescribeSubnetGroups failed: AccessDeniedException: "
        "not you"
    ]


def test_two_regions_are_asked(cloud, capsys):
    words = ("discover", "--region", "eu-west-1", "--region", "us-east-1")
    out = call(capsys, *words)[1]
    assert out.startswith("1 address in eu-west-1, us-east-1\n")


def test_targets_that_may_not_be_listed_are_one_line_and_no_end(cloud, capsys):
    cloud.answer("DescribeInstanceInformation", error("AccessDeniedException", "no"))
    code, out, err = call(capsys, "discover")
    assert (code, out.startswith("1 address in eu-west-1")) == (0, True)
    denied = [line for line in err.splitlines() if "targets" in line]
    assert denied == [
        "ssmtunneld: no targets: DescribeInstanceInformation failed: "
        "AccessDeniedException: no"
    ]


def test_where_targets_cannot_be_listed_the_rest_is(
    cloud, running_cloud, monkeypatch, capsys
):
    # moto does not know them: its answer is a page that says 500.
    monkeypatch.setenv("AWS_ENDPOINT_URL_SSM", running_cloud.url)
    code, out, err = call(capsys, "discover")
    assert (code, out.startswith("1 address in eu-west-1")) == (0, True)
    assert "no targets: DescribeInstanceInformation failed: 500: a web page: 500" in err
    assert "<" not in err


def test_without_credentials_it_ends_with_4(cloud, monkeypatch, capsys):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    assert call(capsys, "discover")[0] == 4


def test_a_tunnel_is_added_from_what_was_discovered(cloud, home, capsys):
    path = home / "config.toml"
    words = ("add", "orders-db", "--from-discover", "orders", "-c", path)
    assert call(capsys, *words)[0] == 0
    (tunnel,) = load_config(path, {}).tunnels
    assert (tunnel.target, tunnel.port) == ("name:bastion", 5432)
    assert tunnel.host.startswith("orders.")
    assert str(tunnel.listen[0]) == "localhost:5432"


def test_the_targets_of_the_file_are_kept(cloud, home, capsys):
    path = home / "config.toml"
    path.write_text('[defaults]\ntarget = "tag:Role=jump"\n')
    words = ("add", "db", "--from-discover", "orders", "--listen", "15432", "-c", path)
    assert call(capsys, *words)[0] == 0
    assert load_config(path, {}).tunnels[0].target == "tag:Role=jump"


def test_what_is_not_there_is_not_added(cloud, home, capsys):
    path = home / "config.toml"
    code, _, err = call(capsys, "add", "db", "--from-discover", "ordrs", "-c", path)
    assert (code, "did you mean orders?" in err) == (2, True)
    cloud.answer("DescribeInstanceInformation", {"InstanceInformationList": []})
    code, _, err = call(capsys, "add", "db", "--from-discover", "orders", "-c", path)
    assert (code, "name one with --target" in err) == (1, True)
    assert not path.exists()
