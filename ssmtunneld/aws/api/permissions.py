"""The permission that a denied call needs: from its message, else protocol 1.4."""

import re
from typing import Final

from ssmtunneld.aws.api.endpoints import partition_of

DOCUMENTS: Final = "https://github.com/ssmtunneld/ssmtunneld/blob/main/docs"
"""The pages that advice points to: its readers do not have the files."""

# AWS's words: "User: arn is not authorized to perform: ssm:StartSession on resource:
# arn because no identity-based policy allows the ssm:StartSession action".
_REPORTED: Final = re.compile(
    r"not authorized to perform: ([a-z0-9-]+:[A-Za-z]+)(?: on resource: (\S+))?"
)
_TARGET_ARN: Final = re.compile(r"arn:(?:[^:]*:){4}(?:instance|managed-instance|task)/")
"""The ARN of what a session is started to, not of the document."""
_EXPLICIT: Final = re.compile(r"with an explicit deny(?: in (?:an? )?([a-z -]+))?")

_OWN_SESSIONS: Final = frozenset(
    {"ssm:ResumeSession", "ssm:TerminateSession", "ssmmessages:OpenDataChannel"}
)
_DISCOVERY: Final = frozenset(
    {
        "ec2:DescribeSubnets",
        "eks:DescribeCluster",
        "eks:ListClusters",
        "elasticache:DescribeCacheClusters",
        "elasticache:DescribeCacheSubnetGroups",
        "elasticache:DescribeReplicationGroups",
        "elasticache:DescribeServerlessCaches",
        "elasticloadbalancing:DescribeListeners",
        "elasticloadbalancing:DescribeLoadBalancers",
        "es:DescribeDomains",
        "es:ListDomainNames",
        "kafka:GetBootstrapBrokers",
        "kafka:ListClustersV2",
        "memorydb:DescribeClusters",
        "memorydb:DescribeSubnetGroups",
        "rds:DescribeDBClusters",
        "rds:DescribeDBInstances",
        "rds:DescribeDBProxies",
        "redshift-serverless:ListWorkgroups",
        "redshift:DescribeClusters",
    }
)
_STARTING: Final = frozenset(
    {"ec2:StartInstances", "ec2:StopInstances", "ec2:CreateTags", "ec2:DeleteTags"}
)
_SECTIONS: Final = {
    **dict.fromkeys(_OWN_SESSIONS, "The caller's own sessions"),
    **dict.fromkeys(_DISCOVERY, "Discovering destinations"),
    **dict.fromkeys(_STARTING, "Bastions that sleep"),
    "ssm:StartSession": "Named instances",
    "ssm:DescribeInstanceInformation": "Looking targets up",
    "ec2:DescribeInstances": "Looking targets up",
    "autoscaling:DescribeAutoScalingGroups": "Looking targets up",
    "ecs:ListTasks": "Looking targets up",
    "ecs:DescribeTasks": "Looking targets up",
    "ecs:DescribeServices": "Looking targets up",
    "ssm:GetConnectionStatus": "Looking targets up",
    "ecs:ListServices": "Looking targets up",
    "ecs:ListClusters": "Looking targets up",
    "eks:DescribeCluster": "Looking clusters up",
    "ssm:StartAccessRequest": "Access on request",
    "ssm:GetAccessToken": "Access on request",
    "sts:AssumeRole": "Assuming a role",
    "redshift:GetClusterCredentials": "Passwords for databases",
    "redshift:GetClusterCredentialsWithIAM": "Passwords for databases",
    "redshift-serverless:GetCredentials": "Passwords for databases",
    "ec2-instance-connect:SendSSHPublicKey": "Keys for ssh",
}
_PREFIXES: Final = {"opensearch": "es", "elbv2": "elasticloadbalancing"}
"""Names of services in policies, where botocore has other ones."""


def advise(
    message: str,
    *,
    service: str,
    operation: str,
    region: str,
    target: str = "",
    document: str = "",
) -> str:
    """Return what to change in a policy, and where its text stands.

    Args:
        message: AWS's own words, which name the action and the resource where it can.
        service: What was called, as botocore names it.
        operation: What it was asked for.
        region: Where.
        target: What a session was to be started to.
        document: With which document.
    """
    reported = _REPORTED.search(message)
    action = reported[1] if reported else _action(service, operation)
    resource = (reported[2] or "").rstrip(".,;") if reported else ""
    denied = _EXPLICIT.search(message)
    is_start = action == "ssm:StartSession" and document and not denied
    if is_start and _TARGET_ARN.match(resource):
        # AWS names the first of two that are missing, and next time the other one.
        resource += f" and {_document_arn(region, document)}"
    resource = resource or _resources(action, region, target, document)
    title = _SECTIONS.get(action, "What the caller needs")
    see = f"(see {section(title)})"
    if denied:
        policy = (denied[1] or "policy").strip()
        return f"change the {policy} that denies {action} on {resource} {see}"
    return f"allow {action} on {resource} {see}"


def section(title: str) -> str:
    """Return the address of a section of ``docs/iam.md``."""
    anchor = re.sub(r"[^a-z -]", "", title.lower()).replace(" ", "-")
    return f"{DOCUMENTS}/iam.md#{anchor}"


def _action(service: str, operation: str) -> str:
    return f"{_PREFIXES.get(service, service)}:{operation}"


def _resources(action: str, region: str, target: str, document: str) -> str:
    """Name what an IAM policy must allow (protocol 1.4)."""
    arn = f"arn:{partition_of(region).name}"
    if action == "ssm:StartSession":
        both = _target_arn(arn, region, target), _document_arn(region, document)
        return " and ".join(both)
    if action in _OWN_SESSIONS:
        return f"{arn}:ssm:*:*:session/${{aws:userid}}-*"
    if action in _STARTING or action in {
        "ec2-instance-connect:SendSSHPublicKey",
        "ssm:StartAccessRequest",
    }:
        return _target_arn(arn, region, target)
    return "*"


def _document_arn(region: str, document: str) -> str:
    if document.startswith("arn:"):
        return document
    return f"arn:{partition_of(region).name}:ssm:*:*:document/{document}"


def _target_arn(arn: str, region: str, target: str) -> str:
    if target.startswith("ecs:"):
        cluster, task, _ = [*target.removeprefix("ecs:").rsplit("_", 2), "*", "*"][:3]
        return f"{arn}:ecs:{region}:*:task/{cluster}/{task}"
    if target.startswith("mi-"):
        return f"{arn}:ssm:{region}:*:managed-instance/{target}"
    return f"{arn}:ec2:{region}:*:instance/{target}"
