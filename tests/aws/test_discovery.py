"""Discovery of destinations: moto answers for services that it knows, else a script."""

import pytest
from botocore.session import Session

from ssmtunneld.aws import discovery
from ssmtunneld.aws.api.answers import Answer
from ssmtunneld.aws.api.port import Identity
from ssmtunneld.aws.client import AwsClient
from ssmtunneld.aws.discovery import Resource, discover
from ssmtunneld.base.foreign import clean
from ssmtunneld.errors import AccessDenied, RequestRejected, ServiceUnavailable
from tests.aws.stub import error
from tests.support.moto import REGION

SECRET = "an-admin-password"


@pytest.fixture
def account(stub, cloud, keys, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", cloud.url)
    account = AwsClient(Identity(region=REGION, endpoint_url=stub.url))
    yield account
    account.close()


@pytest.fixture
def clients(cloud):
    """Clients of moto's services, by name; closed at the end."""
    made = {}

    def get(name):
        return made.setdefault(name, cloud.client(name))

    yield get
    for client in made.values():
        client.close()


@pytest.fixture
def network(cloud):
    """A VPC and two subnets."""
    vpc = cloud.ec2.create_vpc(CidrBlock="10.9.0.0/16")["Vpc"]["VpcId"]
    subnets = [
        cloud.ec2.create_subnet(
            VpcId=vpc,
            CidrBlock=f"10.9.{number}.0/24",
            AvailabilityZone=f"{REGION}{zone}",
        )["Subnet"]["SubnetId"]
        for number, zone in enumerate("ab")
    ]
    return vpc, subnets


def of(account, service):
    found = discover(account)
    return [r for r in found.resources if r.service == service]


def test_an_empty_account_has_nothing_and_no_problems_but_what_moto_lacks(account):
    found = discover(account)
    assert found.resources == ()
    assert {line.partition(":")[0] for line in found.problems} <= {
        "elasticache-serverless",
        "redshift-serverless",
    }


def test_databases_of_rds_have_their_vpc(account, clients, network):
    vpc, subnets = network
    rds = clients("rds")
    rds.create_db_subnet_group(
        DBSubnetGroupName="ours", DBSubnetGroupDescription="x", SubnetIds=subnets
    )
    common = {"MasterUsername": "admin", "MasterUserPassword": SECRET}
    rds.create_db_instance(
        DBInstanceIdentifier="orders",
        Engine="postgres",
        DBInstanceClass="db.t3.micro",
        DBSubnetGroupName="ours",
        Port=5433,
        **common,
    )
    rds.create_db_cluster(
        DBClusterIdentifier="shop", Engine="aurora-mysql", Port=3306, **common
    )
    rds.create_db_instance(
        DBInstanceIdentifier="shop-1",
        DBClusterIdentifier="shop",
        Engine="aurora-mysql",
        DBInstanceClass="db.t3.medium",
        DBSubnetGroupName="ours",
    )
    orders, writer, reader = of(account, "rds")
    assert (orders.id, orders.engine, orders.port, orders.vpc) == (
        *("orders", "postgres", 5433, vpc),
    )
    assert orders.host.startswith("orders.")
    assert [(r.id, r.role, r.vpc) for r in (writer, reader)] == [
        ("shop", "writer", vpc),
        ("shop", "reader", vpc),
    ]
    assert writer.host != reader.host


def test_clusters_of_neptune_come_by_the_same_api(account, clients):
    clients("rds").create_db_cluster(
        DBClusterIdentifier="papers",
        Engine="neptune",
        MasterUsername="admin",
        MasterUserPassword=SECRET,
    )
    assert {(r.id, r.role) for r in of(account, "neptune")} == {
        ("papers", "writer"),
        ("papers", "reader"),
    }


def test_warehouses_domains_and_kubernetes_are_found(account, clients, network):
    _, subnets = network
    redshift = clients("redshift")
    redshift.create_cluster_subnet_group(
        ClusterSubnetGroupName="ours", Description="x", SubnetIds=subnets
    )
    redshift.create_cluster(
        ClusterIdentifier="facts",
        NodeType="ra3.xlplus",
        MasterUsername="admin",
        MasterUserPassword=SECRET,
        ClusterSubnetGroupName="ours",
    )
    clients("opensearch").create_domain(
        DomainName="logs", VPCOptions={"SubnetIds": subnets[:1]}
    )
    clients("eks").create_cluster(
        name="prod",
        roleArn="arn:aws:iam::123456789012:role/eks",
        resourcesVpcConfig={"subnetIds": subnets},
    )
    found = {r.service: r for r in discover(account).resources}
    assert (found["redshift"].id, found["redshift"].port) == ("facts", 5439)
    assert found["eks"].id == "prod"
    assert (found["eks"].port, found["eks"].host.endswith("amazonaws.com")) == (
        443,
        True,
    )
    assert found["opensearch"].host


def test_only_internal_load_balancers_are_listed_with_their_listeners(
    account, clients, network
):
    vpc, subnets = network
    elb = clients("elbv2")
    for name, scheme in (("inside", "internal"), ("outside", "internet-facing")):
        made = elb.create_load_balancer(
            Name=name, Subnets=subnets, Scheme=scheme, Type="network"
        )
        arn = made["LoadBalancers"][0]["LoadBalancerArn"]
        group = elb.create_target_group(
            Name=f"{name}-group", Protocol="TCP", Port=80, VpcId=vpc
        )["TargetGroups"][0]["TargetGroupArn"]
        for port in (80, 8443):
            elb.create_listener(
                LoadBalancerArn=arn,
                Protocol="TCP",
                Port=port,
                DefaultActions=[{"Type": "forward", "TargetGroupArn": group}],
            )
    found = of(account, "elb")
    assert [(r.id, r.engine, r.port, r.vpc) for r in found] == [
        ("inside", "tcp", 80, vpc),
        ("inside", "tcp", 8443, vpc),
    ]


def test_memory_databases_are_found(account, clients, network):
    vpc, subnets = network
    memorydb = clients("memorydb")
    memorydb.create_subnet_group(SubnetGroupName="ours", SubnetIds=subnets)
    memorydb.create_cluster(
        ClusterName="sessions",
        NodeType="db.t4g.small",
        ACLName="open-access",
        SubnetGroupName="ours",
    )
    (found,) = of(account, "memorydb")
    assert (found.id, found.vpc, found.port) == ("sessions", vpc, 6379)


# What moto does not know, or does not answer in full.


class Scripted:
    """An account that answers what a test says, one dictionary for each call."""

    def __init__(self, **answers):
        self.answers = answers
        self.place = None

    def keys(self, _operation):
        return None, type("Place", (), {"ssm_endpoint": "https://ssm.example.com"})

    def call_service(self, _service, operation, **parameters):
        answer = self.answers[operation]
        return Answer(answer(parameters) if callable(answer) else answer)


def end(name, port):
    return {"Address": name, "Port": port}


def test_caches_have_their_endpoints_and_the_vpc_of_their_group():
    account = Scripted(
        DescribeCacheSubnetGroups={
            "CacheSubnetGroups": [{"CacheSubnetGroupName": "g", "VpcId": "vpc-1"}]
        },
        DescribeCacheClusters={
            "CacheClusters": [
                {
                    "CacheClusterId": "old",
                    "Engine": "memcached",
                    "CacheSubnetGroupName": "g",
                    "ConfigurationEndpoint": end("old.cfg", 11211),
                },
                {
                    "CacheClusterId": "one",
                    "Engine": "redis",
                    "CacheNodes": [{"Endpoint": end("one.0001", 6379)}],
                },
                {
                    "CacheClusterId": "group-001",
                    "Engine": "valkey",
                    "ReplicationGroupId": "group",
                    "CacheSubnetGroupName": "g",
                },
            ]
        },
        DescribeReplicationGroups={
            "ReplicationGroups": [
                {
                    "ReplicationGroupId": "group",
                    "NodeGroups": [
                        {
                            "PrimaryEndpoint": end("primary", 6379),
                            "ReaderEndpoint": end("reader", 6379),
                        }
                    ],
                },
                {
                    "ReplicationGroupId": "sharded",
                    "ConfigurationEndpoint": end("clustercfg", 6379),
                },
            ]
        },
    )
    service = "elasticache"
    assert list(discovery._caches(account)) == [
        Resource(service, "old", "memcached", "old.cfg", 11211, "vpc-1"),
        Resource(service, "one", "redis", "one.0001", 6379),
        Resource(service, "group", "valkey", "primary", 6379, "vpc-1", "primary"),
        Resource(service, "group", "valkey", "reader", 6379, "vpc-1", "reader"),
        Resource(service, "sharded", "redis", "clustercfg", 6379),
    ]


def test_serverless_caches_are_in_the_vpc_of_their_subnets():
    account = Scripted(
        DescribeServerlessCaches={
            "ServerlessCaches": [
                {
                    "ServerlessCacheName": "s",
                    "Engine": "valkey",
                    "SubnetIds": ["subnet-1"],
                    "Endpoint": end("s.cache", 6379),
                    "ReaderEndpoint": end("s.cache", 6380),
                }
            ]
        },
        DescribeSubnets={"Subnets": [{"SubnetId": "subnet-1", "VpcId": "vpc-1"}]},
    )
    assert [(r.port, r.vpc) for r in discovery._serverless_caches(account)] == [
        (6379, "vpc-1"),
        (6380, "vpc-1"),
    ]


def test_proxies_have_the_port_of_their_family():
    proxy = {"DBProxyName": "p", "Endpoint": "p.proxy", "VpcId": "vpc-1"}
    pages = iter(
        [
            {"DBProxies": [{**proxy, "EngineFamily": "POSTGRESQL"}], "Marker": "more"},
            {"DBProxies": [{**proxy, "EngineFamily": "MYSQL"}]},
        ]
    )
    asked = []

    def answer(parameters):
        asked.append(parameters)
        return next(pages)

    found = discovery._database_proxies(Scripted(DescribeDBProxies=answer))
    assert [(r.engine, r.port) for r in found] == [
        ("postgresql", 5432),
        ("mysql", 3306),
    ]
    assert asked == [{}, {"Marker": "more"}]


def test_serverless_warehouses_are_found():
    account = Scripted(
        ListWorkgroups={
            "workgroups": [
                {
                    "workgroupName": "w",
                    "endpoint": {
                        "address": "w.serverless",
                        "port": 5439,
                        "vpcEndpoints": [{"vpcId": "vpc-1"}],
                    },
                }
            ]
        }
    )
    (found,) = discovery._serverless_warehouses(account)
    assert found == Resource(
        "redshift-serverless", "w", "redshift", "w.serverless", 5439, "vpc-1"
    )


def test_brokers_are_listed_one_by_one_but_not_the_public_ones():
    cluster = {
        "ClusterName": "events",
        "ClusterArn": "arn",
        "Provisioned": {"BrokerNodeGroupInfo": {"ClientSubnets": ["subnet-1"]}},
    }
    account = Scripted(
        ListClustersV2={"ClusterInfoList": [cluster, {"ClusterName": "bare"}]},
        DescribeSubnets={"Subnets": [{"SubnetId": "subnet-1", "VpcId": "vpc-1"}]},
        GetBootstrapBrokers={
            "BootstrapBrokerStringSaslIam": "b-1.kafka:9098,b-2.kafka:9098",
            "BootstrapBrokerStringPublicTls": "b-1-public.kafka:9194",
            "ResponseMetadata": {},
        },
    )
    found = list(discovery._brokers(account))
    assert [(r.id, r.host, r.port, r.vpc, r.role) for r in found] == [
        ("events", "b-1.kafka", 9098, "vpc-1", "broker, SaslIam"),
        ("events", "b-2.kafka", 9098, "vpc-1", "broker, SaslIam"),
        ("bare", "b-1.kafka", 9098, "", "broker, SaslIam"),
        ("bare", "b-2.kafka", 9098, "", "broker, SaslIam"),
    ]


def test_a_service_that_is_denied_is_one_line(stub, cloud, keys, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", cloud.url)
    monkeypatch.setenv("AWS_ENDPOINT_URL_MEMORYDB", stub.url)
    stub.answer(
        "DescribeSubnetGroups", error("AccessDeniedException", "not\x1b[31m you")
    )
    account = AwsClient(Identity(region=REGION, endpoint_url=stub.url))
    (line,) = [p for p in discover(account).problems if p.startswith("memorydb")]
    account.close()
    assert line == (
        "memorydb: DescribeSubnetGroups failed: AccessDeniedException: not you"
    )


def answering(kind, operation, **answers):
    """Return what answers to these names, and refuses all others."""

    def answer(parameters):
        name = next(iter(parameters.values()), "all")
        if name not in answers:
            raise kind(operation, clean("Refused"), clean(f"not {name}"))
        return answers[name]

    return answer


def eks(endpoint):
    return {"cluster": {"endpoint": endpoint}}


def told(work, **answers):
    """Return hosts and problems of a service that answers so."""
    found = discovery._ask(Scripted(**answers), "it", work)
    assert found.answered
    return [resource.host for resource in found.resources], list(found.problems)


def test_one_cluster_that_is_denied_leaves_the_others():
    hosts, problems = told(
        discovery._kubernetes,
        ListClusters={"clusters": ["a", "b", "c"]},
        DescribeCluster=answering(
            AccessDenied,
            "DescribeCluster",
            a=eks("https://a.eks"),
            c=eks("https://c.eks"),
        ),
    )
    assert hosts == ["a.eks", "c.eks"]
    assert problems == ["it: b: DescribeCluster failed: Refused: not b"]


def test_brokers_that_are_being_created_leave_the_others():
    clusters = [{"ClusterName": name, "ClusterArn": name} for name in "abc"]
    hosts, problems = told(
        discovery._brokers,
        ListClustersV2={"ClusterInfoList": clusters},
        GetBootstrapBrokers=answering(
            RequestRejected,
            "GetBootstrapBrokers",
            a={"BootstrapBrokerString": "a.kafka:9092,x.kafka:70000"},
            c={"BootstrapBrokerString": "c.kafka:9092"},
        ),
    )
    assert hosts == ["a.kafka", "c.kafka"]
    assert problems == [
        "it: a: there is no port 70000",
        "it: b: GetBootstrapBrokers failed: Refused: not b",
    ]


def test_domains_and_listeners_that_are_denied_leave_the_others():
    hosts, problems = told(
        discovery._load_balancers,
        DescribeLoadBalancers={
            "LoadBalancers": [
                {
                    "LoadBalancerArn": name,
                    "LoadBalancerName": name,
                    "DNSName": f"{name}.elb",
                    "Scheme": "internal",
                }
                for name in "ab"
            ]
        },
        DescribeListeners=answering(
            AccessDenied, "DescribeListeners", b={"Listeners": [{"Port": 80}]}
        ),
    )
    assert (hosts, len(problems)) == (["b.elb"], 1)
    names = list("abcdef")

    def describe(parameters):
        if "a" in parameters["DomainNames"]:
            raise AccessDenied("DescribeDomains", clean("Refused"), clean("no"))
        return {"DomainStatusList": [{"DomainName": "f", "Endpoint": "f.es"}]}

    hosts, problems = told(
        discovery._search_domains,
        ListDomainNames={"DomainNames": [{"DomainName": name} for name in names]},
        DescribeDomains=describe,
    )
    assert hosts == ["f.es"]
    assert problems == ["it: a, b, c, d, e: DescribeDomains failed: Refused: no"]


def test_clusters_that_are_denied_leave_the_instances():
    instance = {"DBInstanceIdentifier": "i", "Endpoint": end("i.rds", 5432)}
    hosts, problems = told(
        discovery._databases,
        DescribeDBInstances={"DBInstances": [instance]},
        DescribeDBClusters=answering(AccessDenied, "DescribeDBClusters"),
    )
    assert hosts == ["i.rds"]
    assert problems == ["it: DescribeDBClusters failed: Refused: not all"]


def test_what_was_found_stays_when_a_service_fails_in_the_middle():
    pages = iter(
        [{"DBProxies": [{"DBProxyName": "p", "Endpoint": "p"}], "Marker": "m"}]
    )

    def answer(_):
        for page in pages:
            return page
        raise ServiceUnavailable("DescribeDBProxies", clean("Failed"), clean("no"))

    hosts, problems = told(discovery._database_proxies, DescribeDBProxies=answer)
    assert hosts == ["p"]
    assert problems == ["it: DescribeDBProxies failed: Failed: no"]


@pytest.mark.parametrize(
    "endpoint",
    [
        "https://a.eks:port",
        "https://a.eks:99999",
        "https://[a.eks",
        "a.eks",
        "http://x",
    ],
)
def test_an_endpoint_that_is_no_url_is_a_problem_of_its_cluster(endpoint):
    hosts, problems = told(
        discovery._kubernetes,
        ListClusters={"clusters": ["bad", "new", "good"]},
        DescribeCluster=answering(
            AccessDenied,
            "DescribeCluster",
            bad=eks(endpoint),
            new={"cluster": {"name": "new"}},
            good=eks("https://good.eks:8443"),
        ),
    )
    assert hosts == ["good.eks"]
    assert problems == [f"it: bad: its endpoint is no URL: {endpoint}"]


def test_a_hundred_refusals_are_four_lines():
    _, problems = told(
        discovery._kubernetes,
        ListClusters={"clusters": [f"c{number}" for number in range(100)]},
        DescribeCluster=answering(AccessDenied, "DescribeCluster"),
    )
    assert len(problems) == 4
    assert problems[-1] == "it: 97 more like these"


def test_an_emulator_has_none_of_these_services(stub, keys, monkeypatch):
    for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_EC2"):
        monkeypatch.delenv(name, raising=False)
    account = AwsClient(Identity(region=REGION, endpoint_url=stub.url))
    found = discover(account)
    account.close()
    (problem,) = found.problems
    assert problem.startswith("not asked, because SSM is an emulator: ")
    named = problem.partition(": ")[2].split(", ")
    assert sorted(named) == sorted(discovery.SERVICES)
    assert stub.asked == []


def test_endpoints_are_named_as_botocore_names_them():
    session = Session()
    for name, (variable, _) in discovery._SERVICES.items():
        service = {
            "rds-proxy": "rds",
            "elasticache-serverless": "elasticache",
            "msk": "kafka",
            "elb": "elbv2",
        }.get(name, name)
        model = session.get_service_model(service)
        assert model.service_id.hyphenize().upper().replace("-", "_") == variable


@pytest.mark.parametrize(
    ("work", "operation", "key"),
    [
        (discovery._database_proxies, "DescribeDBProxies", "DBProxies"),
        (discovery._serverless_warehouses, "ListWorkgroups", "workgroups"),
        (discovery._warehouses, "DescribeClusters", "Clusters"),
    ],
)
def test_answers_without_their_parts_are_harmless(work, operation, key):
    account = Scripted(**{operation: {key: [{}]}})
    assert [resource.host for resource in work(account)] == [""]


def test_clusters_of_documentdb_are_a_service_of_their_own():
    cluster = {"DBClusterIdentifier": "d", "Engine": "docdb", "Port": 27017}
    account = Scripted(
        DescribeDBInstances={
            "DBInstances": [
                {"DBClusterIdentifier": "d", "DBSubnetGroup": {"VpcId": "vpc-1"}}
            ]
        },
        DescribeDBClusters={"DBClusters": [{**cluster, "Endpoint": "d.docdb"}]},
    )
    writer, reader = discovery._databases(account)
    assert writer == Resource(
        "docdb", "d", "docdb", "d.docdb", 27017, "vpc-1", "writer"
    )
    assert reader.host == ""
