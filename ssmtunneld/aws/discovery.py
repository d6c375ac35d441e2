"""What tunnels may lead to: databases, caches, clusters and load balancers by name.

Everything here blocks and is to be called in worker threads, or where no loop runs.
Each service is asked by itself: one that is denied, or that a region does not have,
takes nothing away from the others.
"""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from ssmtunneld.aws.inventory import stands_alone
from ssmtunneld.aws.targets import text
from ssmtunneld.base.foreign import clean
from ssmtunneld.errors import AwsError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from ssmtunneld.aws.client import Account

    Asking = Callable[[Account], Iterator["Resource"]]

_THREADS: Final = 6
_PAGE_LIMIT: Final = 100
_DOMAINS_PER_CALL: Final = 5
"""DescribeDomains' maximum."""
_HTTPS: Final = 443
_PROXY_PORTS: Final = {"POSTGRESQL": 5432, "MYSQL": 3306, "SQLSERVER": 1433}
_BROKER: Final = re.compile(r"([A-Za-z0-9.-]+):([0-9]{1,5})")
_OWN_CLUSTERS: Final = frozenset({"docdb", "neptune"})


@dataclass(frozen=True, slots=True)
class Resource:
    """One address that a target may reach."""

    service: str
    """As ``ssmtunneld discover`` calls it: ``rds``."""
    id: str
    """What AWS calls it."""
    engine: str
    """``aurora-postgresql``, ``redis``, ``https``, ..."""
    host: str
    port: int
    vpc: str = ""
    """Empty if nobody says."""
    role: str = ""
    """``writer``, ``reader``, ... where there are several addresses of one id."""


@dataclass(frozen=True, slots=True)
class Discovery:
    """Everything that was found in one account and region."""

    resources: tuple[Resource, ...]
    """By service, id and role."""
    problems: tuple[str, ...] = ()
    """A line for each service that could not be asked."""


def discover(account: Account) -> Discovery:
    """Return what tunnels may lead to; what is denied is one of the problems.

    Raises:
        AwsError: There are no credentials at all.
    """
    stands_alone(account, "RDS")

    def ask(name: str) -> list[Resource] | str:
        variable, work = _SERVICES[name]
        if stands_alone(account, variable):
            return f"{name}: not asked, because SSM is an emulator's"
        try:
            return [_cleaned(found) for found in work(account) if found.host]
        except AwsError as error:
            return f"{name}: {clean(str(error))}"

    with ThreadPoolExecutor(_THREADS, thread_name_prefix="discover") as threads:
        answers = list(threads.map(ask, _SERVICES))
    found = [
        resource for each in answers if isinstance(each, list) for resource in each
    ]
    found.sort(key=lambda r: (r.service, r.id, _ROLES.get(r.role, 9), r.host, r.port))
    problems = tuple(each for each in answers if isinstance(each, str))
    return Discovery(tuple(found), problems)


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
    account: Account,
    service: str,
    operation: str,
    key: str,
    tokens: tuple[str, str] = ("Marker", "Marker"),
    **parameters: object,
) -> Iterator[Mapping[str, Any]]:
    """Yield the items of a list in pages; ``tokens`` are what is asked and answered."""
    for _ in range(_PAGE_LIMIT):
        answer = account.call_service(service, operation, **parameters)
        items = answer.get(key)
        yield from items if isinstance(items, list) else ()
        token = text(answer, tokens[1])
        if not token:
            return
        parameters = {**parameters, tokens[0]: token}


_NEXT: Final = ("NextToken", "NextToken")
_next: Final = ("nextToken", "nextToken")


def _port(found: Mapping[str, Any], key: str = "Port") -> int:
    value = found.get(key)
    return value if isinstance(value, int) else 0


def _vpc_of_group(found: Mapping[str, Any]) -> str:
    return text(found.get("DBSubnetGroup") or {}, "VpcId")


def _databases(account: Account) -> Iterator[Resource]:
    """Yield RDS, Aurora, DocumentDB and Neptune: one API tells of all of them."""
    instances = list(_items(account, "rds", "DescribeDBInstances", "DBInstances"))
    vpcs = {text(i, "DBClusterIdentifier"): _vpc_of_group(i) for i in instances}
    for cluster in _items(account, "rds", "DescribeDBClusters", "DBClusters"):
        name, engine = text(cluster, "DBClusterIdentifier"), text(cluster, "Engine")
        service = engine if engine in _OWN_CLUSTERS else "rds"
        for key, role in (("Endpoint", "writer"), ("ReaderEndpoint", "reader")):
            host, port = text(cluster, key), _port(cluster)
            vpc = vpcs.get(name, "")
            yield Resource(service, name, engine, host, port, vpc, role)
    for instance in instances:
        if text(instance, "DBClusterIdentifier"):
            continue  # its cluster's endpoints follow a failover
        endpoint = instance.get("Endpoint") or {}
        yield Resource(
            "rds",
            text(instance, "DBInstanceIdentifier"),
            text(instance, "Engine"),
            text(endpoint, "Address"),
            _port(endpoint),
            _vpc_of_group(instance),
        )


def _database_proxies(account: Account) -> Iterator[Resource]:
    for proxy in _items(account, "rds", "DescribeDBProxies", "DBProxies"):
        family = text(proxy, "EngineFamily")
        name, host, vpc = (text(proxy, k) for k in ("DBProxyName", "Endpoint", "VpcId"))
        port = _PROXY_PORTS.get(family, 0)
        yield Resource("rds-proxy", name, family.lower(), host, port, vpc)


def _caches(account: Account) -> Iterator[Resource]:
    service = "elasticache"
    groups = _items(account, service, "DescribeCacheSubnetGroups", "CacheSubnetGroups")
    vpcs = {text(g, "CacheSubnetGroupName"): text(g, "VpcId") for g in groups}
    clusters = list(
        _items(
            account,
            service,
            "DescribeCacheClusters",
            "CacheClusters",
            ShowCacheNodeInfo=True,
        )
    )
    by_group: dict[str, Mapping[str, Any]] = {}
    for cluster in clusters:
        vpc = vpcs.get(text(cluster, "CacheSubnetGroupName"), "")
        name, engine = text(cluster, "CacheClusterId"), text(cluster, "Engine")
        if group := text(cluster, "ReplicationGroupId"):
            by_group[group] = {"engine": engine, "vpc": vpc}
            continue
        nodes = cluster.get("CacheNodes") or [{}]
        end = cluster.get("ConfigurationEndpoint") or nodes[0].get("Endpoint") or {}
        yield Resource(service, name, engine, text(end, "Address"), _port(end), vpc)
    for found in _items(
        account, service, "DescribeReplicationGroups", "ReplicationGroups"
    ):
        name = text(found, "ReplicationGroupId")
        known = by_group.get(name, {})
        for role, end in _cache_endpoints(found):
            yield Resource(
                service,
                name,
                text(known, "engine") or text(found, "Engine") or "redis",
                text(end, "Address"),
                _port(end),
                text(known, "vpc"),
                role,
            )


def _cache_endpoints(
    group: Mapping[str, Any],
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    if end := group.get("ConfigurationEndpoint"):
        yield "", end
        return
    for node in group.get("NodeGroups", ()):
        yield "primary", node.get("PrimaryEndpoint") or {}
        yield "reader", node.get("ReaderEndpoint") or {}


def _serverless_caches(account: Account) -> Iterator[Resource]:
    found = list(
        _items(
            account,
            "elasticache",
            "DescribeServerlessCaches",
            "ServerlessCaches",
            _NEXT,
        )
    )
    vpcs = _vpcs_of(account, (cache.get("SubnetIds") or () for cache in found))
    for cache, vpc in zip(found, vpcs, strict=True):
        name, engine = text(cache, "ServerlessCacheName"), text(cache, "Engine")
        for key, role in (("Endpoint", "primary"), ("ReaderEndpoint", "reader")):
            end = cache.get(key) or {}
            host, port = text(end, "Address"), _port(end)
            yield Resource("elasticache", name, engine, host, port, vpc, role)


def _vpcs_of(account: Account, subnets: Iterator[Any]) -> list[str]:
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
                _NEXT,
                Filters=[{"Name": "subnet-id", "Values": ids}],
            ):
                known[text(subnet, "SubnetId")] = text(subnet, "VpcId")
        except AwsError:
            known.clear()  # without it there is all but the VPC
    return [next((known[s] for s in each if s in known), "") for each in wanted]


def _memory_databases(account: Account) -> Iterator[Resource]:
    groups = _items(account, "memorydb", "DescribeSubnetGroups", "SubnetGroups", _NEXT)
    vpcs = {text(g, "Name"): text(g, "VpcId") for g in groups}
    for found in _items(account, "memorydb", "DescribeClusters", "Clusters", _NEXT):
        end = found.get("ClusterEndpoint") or {}
        vpc = vpcs.get(text(found, "SubnetGroupName"), "")
        name, engine = text(found, "Name"), text(found, "Engine") or "redis"
        host, port = text(end, "Address"), _port(end)
        yield Resource("memorydb", name, engine, host, port, vpc)


def _warehouses(account: Account) -> Iterator[Resource]:
    for found in _items(account, "redshift", "DescribeClusters", "Clusters"):
        end, vpc = found.get("Endpoint") or {}, text(found, "VpcId")
        name, host, port = (
            text(found, "ClusterIdentifier"),
            text(end, "Address"),
            _port(end),
        )
        yield Resource("redshift", name, "redshift", host, port, vpc)


def _serverless_warehouses(account: Account) -> Iterator[Resource]:
    service = "redshift-serverless"
    for found in _items(account, service, "ListWorkgroups", "workgroups", _next):
        end = found.get("endpoint") or {}
        vpcs = (text(each, "vpcId") for each in end.get("vpcEndpoints", ()))
        name, host = text(found, "workgroupName"), text(end, "address")
        vpc = next(vpcs, "")
        yield Resource(service, name, "redshift", host, _port(end, "port"), vpc)


def _search_domains(account: Account) -> Iterator[Resource]:
    answer = account.call_service("opensearch", "ListDomainNames")
    listed = answer.get("DomainNames")
    names = [
        text(d, "DomainName") for d in (listed if isinstance(listed, list) else ())
    ]
    for start in range(0, len(names), _DOMAINS_PER_CALL):
        some = names[start : start + _DOMAINS_PER_CALL]
        for found in _items(
            account,
            "opensearch",
            "DescribeDomains",
            "DomainStatusList",
            DomainNames=some,
        ):
            host = text(found.get("Endpoints") or {}, "vpc") or text(found, "Endpoint")
            vpc = text(found.get("VPCOptions") or {}, "VPCId")
            name, engine = text(found, "DomainName"), text(found, "EngineVersion")
            yield Resource("opensearch", name, engine, host, _HTTPS, vpc)


def _brokers(account: Account) -> Iterator[Resource]:
    found = list(_items(account, "kafka", "ListClustersV2", "ClusterInfoList", _NEXT))
    vpcs = _vpcs_of(account, map(_subnets_of_brokers, found))
    for cluster, vpc in zip(found, vpcs, strict=True):
        name, arn = text(cluster, "ClusterName"), text(cluster, "ClusterArn")
        answer = account.call_service("kafka", "GetBootstrapBrokers", ClusterArn=arn)
        for key in sorted(answer):
            if not key.startswith("BootstrapBrokerString") or "Public" in key:
                continue
            kind = key.removeprefix("BootstrapBrokerString") or "Plaintext"
            for host, port in _BROKER.findall(text(answer, key)):
                role = f"broker, {kind}"
                yield Resource("msk", name, "kafka", host, int(port), vpc, role)


def _subnets_of_brokers(cluster: Mapping[str, Any]) -> list[str]:
    provisioned = cluster.get("Provisioned") or {}
    group = provisioned.get("BrokerNodeGroupInfo") or {}
    serverless = (cluster.get("Serverless") or {}).get("VpcConfigs") or [{}]
    return [*(group.get("ClientSubnets") or serverless[0].get("SubnetIds") or ())]


def _kubernetes(account: Account) -> Iterator[Resource]:
    for name in _items(account, "eks", "ListClusters", "clusters", _next):
        answer = account.call_service("eks", "DescribeCluster", name=name)
        cluster = answer.get("cluster")
        found: Mapping[str, Any] = cluster if isinstance(cluster, dict) else {}
        url = urlsplit(text(found, "endpoint"))
        vpc = text(found.get("resourcesVpcConfig") or {}, "vpcId")
        port = url.port or _HTTPS
        yield Resource("eks", str(name), "kubernetes", url.hostname or "", port, vpc)


def _load_balancers(account: Account) -> Iterator[Resource]:
    tokens = ("Marker", "NextMarker")
    for found in _items(
        account, "elbv2", "DescribeLoadBalancers", "LoadBalancers", tokens
    ):
        if text(found, "Scheme") != "internal":
            continue
        arn = text(found, "LoadBalancerArn")
        for listener in _items(
            account,
            "elbv2",
            "DescribeListeners",
            "Listeners",
            tokens,
            LoadBalancerArn=arn,
        ):
            name, host = text(found, "LoadBalancerName"), text(found, "DNSName")
            engine, vpc = text(listener, "Protocol").lower(), text(found, "VpcId")
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
"""What asks each service, and how variables name its endpoint."""

SERVICES: Final = tuple(_SERVICES)
"""The services that are asked."""
