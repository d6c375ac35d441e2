"""Discovery of destinations: databases, caches, clusters and load balancers by name.

Everything here blocks and must be called in worker threads, or where no loop runs.
Each service is asked by itself: one that is denied, or that a region does not have,
leaves the rest complete. So does an item that is denied, or is just being created.
"""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

from ssmtunneld.aws.api.answers import Answer
from ssmtunneld.aws.api.pages import NEXT_TOKEN, turn_pages
from ssmtunneld.aws.clusters import read_endpoint
from ssmtunneld.aws.targets.inventory import stands_alone
from ssmtunneld.base.foreign import clean
from ssmtunneld.base.ports import HIGHEST_PORT, HTTPS_PORT
from ssmtunneld.errors import AccessDenied, AwsError, RequestRejected

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from ssmtunneld.aws.client import AwsClient
    from ssmtunneld.base.foreign import CleanText

    Found = Iterator["Resource | Shortcoming"]
    Asking = Callable[[AwsClient], Found]

_THREADS: Final = 6
_PAGE_LIMIT: Final = 100
_PROBLEM_LIMIT: Final = 3
"""Lines that are told of one service: a policy can deny each of a hundred clusters."""
_DOMAINS_PER_CALL: Final = 5
"""DescribeDomains' maximum."""
_PROXY_PORTS: Final = {"POSTGRESQL": 5432, "MYSQL": 3306, "SQLSERVER": 1433}
_BROKER_KEY: Final = re.compile("BootstrapBrokerString(?!.*Public)[A-Za-z]{0,64}")
_BROKERS: Final = re.compile(r"[A-Za-z0-9.,:-]{1,65536}")
_BROKER: Final = re.compile(r"([A-Za-z0-9.-]+):([0-9]{1,5})")
_OWN_CLUSTERS: Final = frozenset({"docdb", "neptune"})


@dataclass(frozen=True, slots=True)
class Resource:
    """One address that a target can perhaps reach."""

    service: str
    """As ``ssmtunneld discover`` calls it: ``rds``."""
    id: str
    """Its identifier at AWS."""
    engine: str
    """``aurora-postgresql``, ``redis``, ``https``, ..."""
    host: str
    port: int
    vpc: str = ""
    """Empty if unknown."""
    role: str = ""
    """``writer``, ``reader``, ... where there are several addresses of one id."""


@dataclass(frozen=True, slots=True)
class Shortcoming:
    """Something of a service that could not be found out."""

    words: str


@dataclass(frozen=True, slots=True)
class Discovery:
    """Everything that was found in one account and region."""

    resources: tuple[Resource, ...]
    """By service, id and role."""
    problems: tuple[str, ...] = ()
    """Lines for services, and items of them, that could not be asked."""
    answered: bool = False
    """True if one of the services has answered, though perhaps with nothing."""


def discover(account: AwsClient) -> Discovery:
    """Return possible destinations of tunnels; what is denied is one of the problems.

    Raises:
        AwsError: There are no credentials at all.
    """
    stands_alone(account, "RDS")
    unasked: list[str] = []

    def ask(name: str) -> Discovery:
        variable, work = _SERVICES[name]
        if stands_alone(account, variable):
            unasked.append(name)
            return Discovery(())
        return _ask(account, name, work)

    with ThreadPoolExecutor(_THREADS, thread_name_prefix="discover") as threads:
        answers = list(threads.map(ask, _SERVICES))
    found = [resource for each in answers for resource in each.resources]
    found.sort(key=lambda r: (r.service, r.id, _ROLES.get(r.role, 9), r.host, r.port))
    problems = [problem for each in answers for problem in each.problems]
    if unasked:
        names = ", ".join(sorted(unasked))
        problems.append(f"not asked, because SSM is an emulator: {names}")
    answered = any(each.answered for each in answers)
    return Discovery(tuple(found), tuple(problems), answered=answered)


def _ask(account: AwsClient, name: str, work: Asking) -> Discovery:
    """Return what one service tells, up to the error that ends it, if any does."""
    found: list[Resource] = []
    problems: list[str] = []
    answered = False
    try:
        for each in work(account):
            if isinstance(each, Shortcoming):
                problems.append(each.words)
            elif each.host and 0 <= each.port <= HIGHEST_PORT:
                found.append(_cleaned(each))
            elif each.host:
                problems.append(f"{each.id}: there is no port {each.port}")
        answered = True
    except AwsError as error:
        problems.append(str(error))
    lines = [f"{name}: {clean(words)}" for words in problems[:_PROBLEM_LIMIT]]
    if more := len(problems) - len(lines):
        lines.append(f"{name}: {more} more like these")
    return Discovery(tuple(found), tuple(lines), answered=answered or bool(found))


def _part(look: Callable[[], Found], name: str = "") -> Found:
    """Yield what ``look`` finds; what AWS refuses of it leaves the rest complete.

    Args:
        look: Asks for one item of a service, or one kind of them.
        name: Names the item.
    """
    try:
        yield from look()
    except (AccessDenied, RequestRejected) as error:
        yield Shortcoming(f"{name}: {error}" if name else str(error))


_ROLES: Final = {"": 0, "writer": 1, "primary": 1, "reader": 2}


def _cleaned(found: Resource) -> Resource:
    return Resource(
        found.service,
        clean(found.id),
        clean(found.engine),
        clean(found.host),
        found.port,
        clean(found.vpc),
        clean(found.role),
    )


def _items(
    account: AwsClient,
    service: str,
    operation: str,
    key: str,
    tokens: tuple[str, str] = ("Marker", "Marker"),
    **parameters: object,
) -> Iterator[Answer]:
    """Yield the items of a list in pages; ``tokens`` are what is asked and answered."""
    for answer in _pages(account, service, operation, tokens, parameters):
        yield from answer.structures(key)


def _names(
    account: AwsClient,
    service: str,
    operation: str,
    key: str,
    tokens: tuple[str, str],
) -> Iterator[CleanText]:
    """Yield the items of a list of texts in pages."""
    for answer in _pages(account, service, operation, tokens, {}):
        yield from answer.texts(key)


def _pages(
    account: AwsClient,
    service: str,
    operation: str,
    tokens: tuple[str, str],
    parameters: Mapping[str, object],
) -> Iterator[Answer]:
    call = partial(account.call_service, service, operation)
    for answer, _ in turn_pages(call, parameters, limit=_PAGE_LIMIT, tokens=tokens):
        yield answer


_CAMEL_TOKEN: Final = ("nextToken", "nextToken")


def _port(found: Answer, key: str = "Port") -> int:
    return found.number(key)


def _vpc_of_group(found: Answer) -> str:
    return found.structure("DBSubnetGroup").text("VpcId")


def _databases(account: AwsClient) -> Found:
    """Yield RDS, Aurora, DocumentDB and Neptune: one API tells of all of them."""
    instances = list(_items(account, "rds", "DescribeDBInstances", "DBInstances"))
    vpcs = {i.text("DBClusterIdentifier"): _vpc_of_group(i) for i in instances}
    yield from _part(partial(_database_clusters, account, vpcs))
    for instance in instances:
        if instance.text("DBClusterIdentifier"):
            continue  # its cluster's endpoints follow a failover
        endpoint = instance.structure("Endpoint")
        yield Resource(
            "rds",
            instance.text("DBInstanceIdentifier"),
            instance.text("Engine"),
            endpoint.text("Address"),
            _port(endpoint),
            _vpc_of_group(instance),
        )


def _database_clusters(account: AwsClient, vpcs: Mapping[CleanText, str]) -> Found:
    for cluster in _items(account, "rds", "DescribeDBClusters", "DBClusters"):
        name, engine = cluster.text("DBClusterIdentifier"), cluster.text("Engine")
        service = engine if engine in _OWN_CLUSTERS else "rds"
        for key, role in (("Endpoint", "writer"), ("ReaderEndpoint", "reader")):
            host, port = cluster.text(key), _port(cluster)
            vpc = vpcs.get(name, "")
            yield Resource(service, name, engine, host, port, vpc, role)


def _database_proxies(account: AwsClient) -> Found:
    for proxy in _items(account, "rds", "DescribeDBProxies", "DBProxies"):
        family = proxy.text("EngineFamily")
        name, host, vpc = (proxy.text(k) for k in ("DBProxyName", "Endpoint", "VpcId"))
        port = _PROXY_PORTS.get(family, 0)
        yield Resource("rds-proxy", name, family.lower(), host, port, vpc)


def _caches(account: AwsClient) -> Found:
    service = "elasticache"
    groups = _items(account, service, "DescribeCacheSubnetGroups", "CacheSubnetGroups")
    vpcs = {g.text("CacheSubnetGroupName"): g.text("VpcId") for g in groups}
    clusters = list(
        _items(
            account,
            service,
            "DescribeCacheClusters",
            "CacheClusters",
            ShowCacheNodeInfo=True,
        )
    )
    by_group: dict[str, tuple[str, str]] = {}
    for cluster in clusters:
        vpc = vpcs.get(cluster.text("CacheSubnetGroupName"), "")
        name, engine = cluster.text("CacheClusterId"), cluster.text("Engine")
        if group := cluster.text("ReplicationGroupId"):
            by_group[group] = engine, vpc
            continue
        nodes = cluster.structures("CacheNodes") or [Answer({})]
        has_one = cluster.has("ConfigurationEndpoint")
        end = (
            cluster.structure("ConfigurationEndpoint")
            if has_one
            else nodes[0].structure("Endpoint")
        )
        yield Resource(service, name, engine, end.text("Address"), _port(end), vpc)
    for found in _items(
        account, service, "DescribeReplicationGroups", "ReplicationGroups"
    ):
        name = found.text("ReplicationGroupId")
        known_engine, known_vpc = by_group.get(name, ("", ""))
        for role, end in _cache_endpoints(found):
            yield Resource(
                service,
                name,
                known_engine or found.text("Engine") or "redis",
                end.text("Address"),
                _port(end),
                known_vpc,
                role,
            )


def _cache_endpoints(
    group: Answer,
) -> Iterator[tuple[str, Answer]]:
    if group.has("ConfigurationEndpoint"):
        yield "", group.structure("ConfigurationEndpoint")
        return
    for node in group.structures("NodeGroups"):
        yield "primary", node.structure("PrimaryEndpoint")
        yield "reader", node.structure("ReaderEndpoint")


def _serverless_caches(account: AwsClient) -> Found:
    found = list(
        _items(
            account,
            "elasticache",
            "DescribeServerlessCaches",
            "ServerlessCaches",
            NEXT_TOKEN,
        )
    )
    vpcs = _vpcs_of(account, (cache.texts("SubnetIds") for cache in found))
    for cache, vpc in zip(found, vpcs, strict=True):
        name, engine = cache.text("ServerlessCacheName"), cache.text("Engine")
        for key, role in (("Endpoint", "primary"), ("ReaderEndpoint", "reader")):
            end = cache.structure(key)
            host, port = end.text("Address"), _port(end)
            yield Resource("elasticache", name, engine, host, port, vpc, role)


def _vpcs_of(account: AwsClient, subnets: Iterable[list[CleanText]]) -> list[str]:
    """Return the VPC of each list of subnets; empty where EC2 does not say."""
    wanted = [list(each) for each in subnets]
    ids = sorted({subnet for each in wanted for subnet in each})
    known: dict[str, str] = {}
    if ids and not stands_alone(account, "EC2"):
        try:
            for subnet in _items(
                account,
                "ec2",
                "DescribeSubnets",
                "Subnets",
                NEXT_TOKEN,
                Filters=[{"Name": "subnet-id", "Values": ids}],
            ):
                known[subnet.text("SubnetId")] = subnet.text("VpcId")
        except AwsError:
            known.clear()  # without it there is all but the VPC
    return [next((known[s] for s in each if s in known), "") for each in wanted]


def _memory_databases(account: AwsClient) -> Found:
    groups = _items(
        account, "memorydb", "DescribeSubnetGroups", "SubnetGroups", NEXT_TOKEN
    )
    vpcs = {g.text("Name"): g.text("VpcId") for g in groups}
    for found in _items(
        account, "memorydb", "DescribeClusters", "Clusters", NEXT_TOKEN
    ):
        end = found.structure("ClusterEndpoint")
        vpc = vpcs.get(found.text("SubnetGroupName"), "")
        name, engine = found.text("Name"), found.text("Engine") or "redis"
        host, port = end.text("Address"), _port(end)
        yield Resource("memorydb", name, engine, host, port, vpc)


def _warehouses(account: AwsClient) -> Found:
    for found in _items(account, "redshift", "DescribeClusters", "Clusters"):
        end, vpc = found.structure("Endpoint"), found.text("VpcId")
        name, host, port = (
            found.text("ClusterIdentifier"),
            end.text("Address"),
            _port(end),
        )
        yield Resource("redshift", name, "redshift", host, port, vpc)


def _serverless_warehouses(account: AwsClient) -> Found:
    service = "redshift-serverless"
    for found in _items(account, service, "ListWorkgroups", "workgroups", _CAMEL_TOKEN):
        end = found.structure("endpoint")
        vpcs = (each.text("vpcId") for each in end.structures("vpcEndpoints"))
        name, host = found.text("workgroupName"), end.text("address")
        vpc = next(vpcs, "")
        yield Resource(service, name, "redshift", host, _port(end, "port"), vpc)


def _search_domains(account: AwsClient) -> Found:
    answer = account.call_service("opensearch", "ListDomainNames")
    names = [found.text("DomainName") for found in answer.structures("DomainNames")]
    for start in range(0, len(names), _DOMAINS_PER_CALL):
        some = names[start : start + _DOMAINS_PER_CALL]
        yield from _part(partial(_some_domains, account, some), ", ".join(some))


def _some_domains(account: AwsClient, names: list[CleanText]) -> Found:
    for found in _items(
        account,
        "opensearch",
        "DescribeDomains",
        "DomainStatusList",
        DomainNames=names,
    ):
        host = found.structure("Endpoints").text("vpc") or found.text("Endpoint")
        vpc = found.structure("VPCOptions").text("VPCId")
        name, engine = found.text("DomainName"), found.text("EngineVersion")
        yield Resource("opensearch", name, engine, host, HTTPS_PORT, vpc)


def _brokers(account: AwsClient) -> Found:
    found = list(
        _items(account, "kafka", "ListClustersV2", "ClusterInfoList", NEXT_TOKEN)
    )
    vpcs = _vpcs_of(account, map(_subnets_of_brokers, found))
    for cluster, vpc in zip(found, vpcs, strict=True):
        name = cluster.text("ClusterName")
        # One that is still being created has none yet, and AWS refuses to tell them.
        yield from _part(partial(_brokers_of, account, cluster, vpc), name)


def _brokers_of(account: AwsClient, cluster: Answer, vpc: str) -> Found:
    name, arn = cluster.text("ClusterName"), cluster.text("ClusterArn")
    answer = account.call_service("kafka", "GetBootstrapBrokers", ClusterArn=arn)
    for key in answer.names(_BROKER_KEY):
        kind = key.removeprefix("BootstrapBrokerString") or "Plaintext"
        for host, port in _BROKER.findall(answer.matching(key, _BROKERS)):
            role = f"broker, {kind}"
            yield Resource("msk", name, "kafka", host, int(port), vpc, role)


def _subnets_of_brokers(cluster: Answer) -> list[CleanText]:
    provisioned = cluster.structure("Provisioned")
    group = provisioned.structure("BrokerNodeGroupInfo")
    serverless = cluster.structure("Serverless").structures("VpcConfigs")
    subnets = group.texts("ClientSubnets")
    return subnets or (serverless[0].texts("SubnetIds") if serverless else [])


def _kubernetes(account: AwsClient) -> Found:
    for name in _names(account, "eks", "ListClusters", "clusters", _CAMEL_TOKEN):
        yield from _part(partial(_kubernetes_cluster, account, name), name)


def _kubernetes_cluster(account: AwsClient, name: CleanText) -> Found:
    answer = account.call_service("eks", "DescribeCluster", name=name)
    found = answer.structure("cluster")
    if not found.has("endpoint"):
        return  # it is still being created
    place = read_endpoint(found)
    if place is None:
        yield Shortcoming(f"{name}: its endpoint is no URL: {found.text('endpoint')}")
        return
    host, port = place
    vpc = found.structure("resourcesVpcConfig").text("vpcId")
    yield Resource("eks", name, "kubernetes", host, port, vpc)


def _load_balancers(account: AwsClient) -> Found:
    tokens = ("Marker", "NextMarker")
    for found in _items(
        account, "elbv2", "DescribeLoadBalancers", "LoadBalancers", tokens
    ):
        if found.text("Scheme") != "internal":
            continue
        name = found.text("LoadBalancerName")
        yield from _part(partial(_load_balancer_listeners, account, found), name)


def _load_balancer_listeners(account: AwsClient, balancer: Answer) -> Found:
    name, host = balancer.text("LoadBalancerName"), balancer.text("DNSName")
    vpc = balancer.text("VpcId")
    for listener in _items(
        account,
        "elbv2",
        "DescribeListeners",
        "Listeners",
        ("Marker", "NextMarker"),
        LoadBalancerArn=balancer.text("LoadBalancerArn"),
    ):
        engine = listener.text("Protocol").lower()
        yield Resource("elb", name, engine, host, _port(listener), vpc)


_SERVICES: Final[Mapping[str, tuple[str, Asking]]] = {
    "rds": ("RDS", _databases),
    "rds-proxy": ("RDS", _database_proxies),
    "elasticache": ("ELASTICACHE", _caches),
    "elasticache-serverless": ("ELASTICACHE", _serverless_caches),
    "memorydb": ("MEMORYDB", _memory_databases),
    "redshift": ("REDSHIFT", _warehouses),
    "redshift-serverless": ("REDSHIFT_SERVERLESS", _serverless_warehouses),
    "opensearch": ("OPENSEARCH", _search_domains),
    "msk": ("KAFKA", _brokers),
    "eks": ("EKS", _kubernetes),
    "elb": ("ELASTIC_LOAD_BALANCING_V2", _load_balancers),
}
"""The variable of each service's endpoint, and the function that asks it."""

SERVICES: Final = tuple(_SERVICES)
"""The services that are asked."""
