"""EC2's model, as far as we use it.

botocore has the whole of it: 760 operations, which cost a daemon 17 MiB and 0.1 s for
the sake of one. What stands here is that one in the form of botocore's own
``service-2.json``; endpoints, partitions and signatures stay botocore's business.
"""

import threading
from collections.abc import Sequence
from typing import Any, Final

from botocore.loaders import Loader
from typing_extensions import override


def _member(wire_name: str, shape: str = "String") -> dict[str, str]:
    return {"shape": shape, "locationName": wire_name}


def _structure(**members: dict[str, str]) -> dict[str, Any]:
    return {"type": "structure", "members": members}


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
    },
    "shapes": {
        "String": {"type": "string"},
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
        "DescribeInstancesResult": _structure(
            NextToken=_member("nextToken"),
            Reservations=_member("reservationSet", "ReservationList"),
        ),
    },
}


class Models(Loader):
    """botocore's models, except that of EC2; for all threads together.

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
        if (service_name, type_name) == ("ec2", "service-2"):
            return EC2_MODEL
        with self._reading:
            return super().load_service_model(service_name, type_name, api_version)

    @override
    def load_data_with_path(self, name: str) -> Any:
        """Return the content of one file, and its path."""
        with self._reading:
            return super().load_data_with_path(name)
