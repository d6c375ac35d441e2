"""The models of EC2, EKS and SSM, as far as we use them, and our services' endpoints.

botocore has the whole of them. EC2's 760 operations cost a daemon 17 MiB and 0.1 s for
the sake of six, SSM's 5 MiB, EKS's 2, and the endpoints of 400 services 7 MiB. What
stands here is in the form of botocore's own ``service-2.json``; the endpoints are read
from its file, so that endpoints, partitions and signatures stay its business.
"""

import json
import re
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from botocore.exceptions import DataNotFoundError
from botocore.loaders import Loader
from typing_extensions import override

from ssmtunneld.base.paths import is_file


def _member(wire_name: str, shape: str = "String") -> dict[str, str]:
    return {"shape": shape, "locationName": wire_name}


def _structure(**members: dict[str, str]) -> dict[str, Any]:
    return {"type": "structure", "members": members}


def _required(*required: str, **members: dict[str, str]) -> dict[str, Any]:
    return {"type": "structure", "required": list(required), "members": members}


def _listed(shape: str, wire_name: str = "item") -> dict[str, Any]:
    member = {"shape": shape, "locationName": wire_name}
    return {"type": "list", "member": member}


EC2_MODEL: Final[dict[str, Any]] = {
    "version": "2.0",
    "metadata": {
        "apiVersion": "2016-11-15",
        "endpointPrefix": "ec2",
        "protocol": "ec2",
        "protocols": ["ec2"],
        "serviceAbbreviation": "Amazon EC2",
        "serviceFullName": "Amazon Elastic Compute Cloud",
        "serviceId": "EC2",
        "signatureVersion": "v4",
        "auth": ["aws.auth#sigv4"],
        "uid": "ec2-2016-11-15",
        "xmlNamespace": "http://ec2.amazonaws.com/doc/2016-11-15",
    },
    "operations": {
        "DescribeInstances": {
            "name": "DescribeInstances",
            "http": {"method": "POST", "requestUri": "/"},
            "input": {"shape": "DescribeInstancesRequest"},
            "output": {"shape": "DescribeInstancesResult"},
        },
        "DescribeSubnets": {
            "name": "DescribeSubnets",
            "http": {"method": "POST", "requestUri": "/"},
            "input": {"shape": "DescribeSubnetsRequest"},
            "output": {"shape": "DescribeSubnetsResult"},
        },
        "StartInstances": {
            "name": "StartInstances",
            "http": {"method": "POST", "requestUri": "/"},
            "input": {"shape": "StartInstancesRequest"},
            "output": {"shape": "StartInstancesResult"},
        },
        "StopInstances": {
            "name": "StopInstances",
            "http": {"method": "POST", "requestUri": "/"},
            "input": {"shape": "StopInstancesRequest"},
            "output": {"shape": "StopInstancesResult"},
        },
        "CreateTags": {
            "name": "CreateTags",
            "http": {"method": "POST", "requestUri": "/"},
            "input": {"shape": "CreateTagsRequest"},
        },
        "DeleteTags": {
            "name": "DeleteTags",
            "http": {"method": "POST", "requestUri": "/"},
            "input": {"shape": "DeleteTagsRequest"},
        },
    },
    "shapes": {
        "String": {"type": "string"},
        "Boolean": {"type": "boolean"},
        "Integer": {"type": "integer"},
        "DateTime": {"type": "timestamp"},
        "ValueStringList": _listed("String"),
        "Filter": _structure(
            Name={"shape": "String"}, Values=_member("Value", "ValueStringList")
        ),
        "FilterList": _listed("Filter", "Filter"),
        "DescribeInstancesRequest": _structure(
            Filters=_member("Filter", "FilterList"),
            NextToken=_member("nextToken"),
            MaxResults=_member("maxResults", "Integer"),
        ),
        "DescribeSubnetsRequest": _structure(
            Filters=_member("Filter", "FilterList"),
            NextToken={"shape": "String"},
        ),
        "Subnet": _structure(SubnetId=_member("subnetId"), VpcId=_member("vpcId")),
        "SubnetList": _listed("Subnet"),
        "DescribeSubnetsResult": _structure(
            NextToken=_member("nextToken"),
            Subnets=_member("subnetSet", "SubnetList"),
        ),
        "Tag": _structure(Key=_member("key"), Value=_member("value")),
        "TagList": _listed("Tag"),
        "InstanceState": _structure(Name=_member("name")),
        "IamInstanceProfile": _structure(Arn=_member("arn")),
        "Instance": _structure(
            InstanceId=_member("instanceId"),
            VpcId=_member("vpcId"),
            IamInstanceProfile=_member("iamInstanceProfile", "IamInstanceProfile"),
            LaunchTime=_member("launchTime", "DateTime"),
            State=_member("instanceState", "InstanceState"),
            Tags=_member("tagSet", "TagList"),
        ),
        "InstanceList": _listed("Instance"),
        "Reservation": _structure(
            OwnerId=_member("ownerId"),
            Instances=_member("instancesSet", "InstanceList"),
        ),
        "ReservationList": _listed("Reservation"),
        "InstanceIdStringList": _listed("String", "InstanceId"),
        "ResourceIdList": {"type": "list", "member": {"shape": "String"}},
        "StartInstancesRequest": _required(
            "InstanceIds",
            InstanceIds=_member("InstanceId", "InstanceIdStringList"),
            DryRun=_member("dryRun", "Boolean"),
        ),
        "StopInstancesRequest": _required(
            "InstanceIds",
            InstanceIds=_member("InstanceId", "InstanceIdStringList"),
            DryRun=_member("dryRun", "Boolean"),
        ),
        "InstanceStateChange": _structure(
            InstanceId=_member("instanceId"),
            CurrentState=_member("currentState", "InstanceState"),
            PreviousState=_member("previousState", "InstanceState"),
        ),
        "InstanceStateChangeList": _listed("InstanceStateChange"),
        "StartInstancesResult": _structure(
            StartingInstances=_member("instancesSet", "InstanceStateChangeList")
        ),
        "StopInstancesResult": _structure(
            StoppingInstances=_member("instancesSet", "InstanceStateChangeList")
        ),
        "CreateTagsRequest": _required(
            "Resources",
            "Tags",
            Resources=_member("ResourceId", "ResourceIdList"),
            Tags=_member("Tag", "TagList"),
        ),
        "DeleteTagsRequest": _required(
            "Resources",
            Resources=_member("resourceId", "ResourceIdList"),
            Tags=_member("tag", "TagList"),
        ),
        "DescribeInstancesResult": _structure(
            NextToken=_member("nextToken"),
            Reservations=_member("reservationSet", "ReservationList"),
        ),
    },
}


def _members(*names: str, shape: str = "String") -> dict[str, dict[str, str]]:
    return {name: {"shape": shape} for name in names}


def _operation(name: str, answer: str = "Response") -> dict[str, Any]:
    return {
        "name": name,
        "http": {"method": "POST", "requestUri": "/"},
        "input": {"shape": f"{name}Request"},
        "output": {"shape": f"{name}{answer}"},
    }


def _in_query(wire_name: str, shape: str = "String") -> dict[str, str]:
    return {"shape": shape, "location": "querystring", "locationName": wire_name}


def _plain_list(shape: str) -> dict[str, Any]:
    return {"type": "list", "member": {"shape": shape}}


_GRANTED: Final = _structure(**_members("SessionId", "TokenValue", "StreamUrl"))
_OF_SESSION: Final = _required("SessionId", **_members("SessionId"))

SSM_MODEL: Final[dict[str, Any]] = {
    "version": "2.0",
    "metadata": {
        "apiVersion": "2014-11-06",
        "endpointPrefix": "ssm",
        "jsonVersion": "1.1",
        "protocol": "json",
        "protocols": ["json"],
        "serviceAbbreviation": "Amazon SSM",
        "serviceFullName": "Amazon Simple Systems Manager (SSM)",
        "serviceId": "SSM",
        "signatureVersion": "v4",
        "targetPrefix": "AmazonSSM",
        "uid": "ssm-2014-11-06",
        "auth": ["aws.auth#sigv4"],
    },
    "operations": {
        "StartSession": _operation("StartSession"),
        "ResumeSession": _operation("ResumeSession"),
        "TerminateSession": _operation("TerminateSession"),
        "DescribeSessions": _operation("DescribeSessions"),
        "GetConnectionStatus": _operation("GetConnectionStatus"),
        "DescribeInstanceInformation": _operation(
            "DescribeInstanceInformation", "Result"
        ),
        "StartAccessRequest": _operation("StartAccessRequest"),
        "GetAccessToken": _operation("GetAccessToken"),
    },
    "shapes": {
        "String": {"type": "string"},
        "Integer": {"type": "integer"},
        "DateTime": {"type": "timestamp"},
        "StringList": _plain_list("String"),
        "Parameters": {
            "type": "map",
            "key": {"shape": "String"},
            "value": {"shape": "StringList"},
        },
        "StartSessionRequest": _required(
            "Target",
            **_members("Target", "DocumentName", "Reason"),
            Parameters={"shape": "Parameters"},
        ),
        "StartSessionResponse": _GRANTED,
        "ResumeSessionRequest": _OF_SESSION,
        "ResumeSessionResponse": _GRANTED,
        "TerminateSessionRequest": _OF_SESSION,
        "TerminateSessionResponse": _structure(**_members("SessionId")),
        "SessionFilter": _required("key", "value", **_members("key", "value")),
        "SessionFilterList": _plain_list("SessionFilter"),
        "DescribeSessionsRequest": _required(
            "State",
            **_members("State", "NextToken"),
            MaxResults={"shape": "Integer"},
            Filters={"shape": "SessionFilterList"},
        ),
        "Session": _structure(
            **_members("SessionId", "Target", "Status", "DocumentName", "Owner"),
            **_members("Reason", "MaxSessionDuration"),
            **_members("StartDate", "EndDate", shape="DateTime"),
        ),
        "SessionList": _plain_list("Session"),
        "DescribeSessionsResponse": _structure(
            **_members("NextToken"), Sessions={"shape": "SessionList"}
        ),
        "GetConnectionStatusRequest": _required("Target", **_members("Target")),
        "GetConnectionStatusResponse": _structure(**_members("Target", "Status")),
        "NodeFilter": _required(
            "Key", "Values", **_members("Key"), Values={"shape": "StringList"}
        ),
        "NodeFilterList": _plain_list("NodeFilter"),
        "DescribeInstanceInformationRequest": _structure(
            **_members("NextToken"),
            MaxResults={"shape": "Integer"},
            Filters={"shape": "NodeFilterList"},
        ),
        "InstanceInformation": _structure(
            **_members("InstanceId", "PingStatus", "AgentVersion", "PlatformType"),
            **_members("PlatformName", "PlatformVersion", "ActivationId", "IamRole"),
            **_members("ResourceType", "Name", "IPAddress", "ComputerName"),
            **_members("SourceId", "SourceType", "SourceLocation"),
            **_members("LastPingDateTime", "RegistrationDate", shape="DateTime"),
        ),
        "InstanceInformationList": _plain_list("InstanceInformation"),
        "NodeTarget": _structure(**_members("Key"), Values={"shape": "StringList"}),
        "NodeTargetList": _plain_list("NodeTarget"),
        "StartAccessRequestRequest": _required(
            "Reason",
            "Targets",
            **_members("Reason"),
            Targets={"shape": "NodeTargetList"},
        ),
        "StartAccessRequestResponse": _structure(**_members("AccessRequestId")),
        "GetAccessTokenRequest": _required(
            "AccessRequestId", **_members("AccessRequestId")
        ),
        "TokenCredentials": _required(
            *("AccessKeyId", "SecretAccessKey", "SessionToken", "ExpirationTime"),
            **_members("AccessKeyId", "SecretAccessKey", "SessionToken"),
            ExpirationTime={"shape": "DateTime"},
        ),
        "GetAccessTokenResponse": _structure(
            **_members("AccessRequestStatus"), Credentials={"shape": "TokenCredentials"}
        ),
        "DescribeInstanceInformationResult": _structure(
            **_members("NextToken"),
            InstanceInformationList={"shape": "InstanceInformationList"},
        ),
    },
}

EKS_MODEL: Final[dict[str, Any]] = {
    "version": "2.0",
    "metadata": {
        "apiVersion": "2017-11-01",
        "endpointPrefix": "eks",
        "jsonVersion": "1.1",
        "protocol": "rest-json",
        "protocols": ["rest-json"],
        "serviceAbbreviation": "Amazon EKS",
        "serviceFullName": "Amazon Elastic Kubernetes Service",
        "serviceId": "EKS",
        "signatureVersion": "v4",
        "signingName": "eks",
        "uid": "eks-2017-11-01",
        "auth": ["aws.auth#sigv4"],
    },
    "operations": {
        "DescribeCluster": {
            **_operation("DescribeCluster"),
            "http": {"method": "GET", "requestUri": "/clusters/{name}"},
        },
        "ListClusters": {
            **_operation("ListClusters"),
            "http": {"method": "GET", "requestUri": "/clusters"},
        },
    },
    "shapes": {
        "String": {"type": "string"},
        "Integer": {"type": "integer"},
        "StringList": _plain_list("String"),
        "DescribeClusterRequest": _required(
            "name", name={"shape": "String", "location": "uri", "locationName": "name"}
        ),
        "VpcConfigResponse": _structure(**_members("vpcId")),
        "Certificate": _structure(**_members("data")),
        "Cluster": _structure(
            **_members("name", "endpoint", "status"),
            resourcesVpcConfig={"shape": "VpcConfigResponse"},
            certificateAuthority={"shape": "Certificate"},
        ),
        "DescribeClusterResponse": _structure(cluster={"shape": "Cluster"}),
        "ListClustersRequest": _structure(
            maxResults=_in_query("maxResults", "Integer"),
            nextToken=_in_query("nextToken"),
        ),
        "ListClustersResponse": _structure(
            **_members("nextToken"), clusters={"shape": "StringList"}
        ),
    },
}

_EXCERPTS: Final = {"ec2": EC2_MODEL, "eks": EKS_MODEL, "ssm": SSM_MODEL}

SERVICES: Final = frozenset(
    {
        *("ssm", "sts", "ec2", "ec2-instance-connect", "autoscaling", "ecs"),
        *("rds", "elasticache", "memory-db", "redshift", "redshift-serverless"),
        *("es", "kafka", "eks", "elasticloadbalancing"),
        # What botocore itself asks for credentials.
        *("portal.sso", "oidc", "signin"),
    }
)
"""Names in botocore's ``endpoints.json`` of all services that are called."""


_RULES: Final = "endpoint-rule-set-1"
"""The kind of model that says where a service is."""

# The services of a partition, as its file is laid out, and one of them.
_SERVICES, _END = '\n    "services" : {', "\n    }"
_NAMES: Final = "|".join(map(re.escape, sorted(SERVICES)))
_SERVICE: Final = re.compile(rf'\n      "(?:{_NAMES})" : {{.*?\n      }}', re.DOTALL)


def _shortened(text: str) -> str:
    """Return the text of ``endpoints.json`` with the services that are called.

    It is cut by its layout, in a third of the time that a parser takes: 6 ms less at
    each start. With another layout it comes back whole, or as what is not JSON.
    """
    head, *parts = text.split(_SERVICES)
    kept = [head]
    for part in parts:
        if part.lstrip(" ").startswith("}"):  # a partition without any
            kept += _SERVICES, part
            continue
        services, end, rest = part.partition(_END)
        kept += _SERVICES, ",".join(_SERVICE.findall(services)), end, rest
    return "".join(kept)


def _without_other_services(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Make an object of ``endpoints.json``; a partition keeps only our services."""
    made = dict(pairs)
    if "partition" in made and "services" in made:
        services = made["services"]
        made["services"] = {name: services[name] for name in SERVICES & services.keys()}
    return made


class Models(Loader):
    """botocore's models, except those above; for all threads together.

    One thread reads at a time. Without that, twenty identities that begin together read
    the same model twenty times: 60 MiB for a moment, and 0.3 s for everybody else.

    Args:
        search_paths: Folders with models, the first one first.
    """

    def __init__(self, search_paths: Sequence[str]) -> None:
        super().__init__(
            extra_search_paths=list(search_paths), include_default_search_paths=False
        )
        self._reading = threading.RLock()

    # botocore's methods have no types: what they take and return is its documentation.
    @override
    def load_service_model(
        self, service_name: str, type_name: str, api_version: str | None = None
    ) -> Any:
        """Return the model of a service, or of its endpoints, or what else there is."""
        if type_name == "service-2" and service_name in _EXCERPTS:
            return _EXCERPTS[service_name]
        with self._reading:
            if type_name == _RULES:
                # botocore looks through the folders of all services first: 8 ms.
                with suppress(DataNotFoundError):
                    version = api_version or self.determine_latest_version(
                        service_name, type_name
                    )
                    return self.load_data(f"{service_name}/{version}/{type_name}")
            return super().load_service_model(service_name, type_name, api_version)

    @override
    def load_data_with_path(self, name: str) -> Any:
        """Return the content of one file, and its path."""
        with self._reading:
            if name == "endpoints":
                for folder in self.search_paths:
                    path = Path(folder) / "endpoints.json"
                    if is_file(path):
                        return _read_endpoints(path), str(path)
            return super().load_data_with_path(name)


def _read_endpoints(path: Path) -> Any:  # noqa: ANN401 - as botocore has it
    # Partition by partition: the largest one is all that is in memory at once.
    text = path.read_text(encoding="utf-8")
    try:
        return _parse_endpoints(_shortened(text))
    except json.JSONDecodeError:
        return _parse_endpoints(text)


def _parse_endpoints(text: str) -> Any:  # noqa: ANN401 - as above
    return json.loads(text, object_pairs_hook=_without_other_services)
