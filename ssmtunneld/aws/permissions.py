"""What must be allowed when AWS says no: in its own words, else by protocol 1.4."""

import re
from typing import Final

from ssmtunneld.aws.endpoints import partition_of

DOCUMENT: Final = "docs/iam.md"
"""Where the policies are, in this project."""

# AWS's words: "User: arn is not authorized to perform: ssm:StartSession on resource:
# arn because no identity-based policy allows the ssm:StartSession action".
_REPORTED: Final = re.compile(
    r"not authorized to perform: ([a-z0-9-]+:[A-Za-z]+)(?: on resource: (\S+))?"
)
_EXPLICIT: Final = re.compile(r"with an explicit deny(?: in (?:an? )?([a-z -]+))?")

_OWN_SESSIONS: Final = frozenset(
    {"ssm:ResumeSession", "ssm:TerminateSession", "ssmmessages:OpenDataChannel"}
)
_SECTIONS: Final = {
    **dict.fromkeys(_OWN_SESSIONS, "the-callers-own-sessions"),
    "ssm:StartSession": "named-instances",
    "ssm:DescribeInstanceInformation": "looking-targets-up",
    "ec2:DescribeInstances": "looking-targets-up",
    "autoscaling:DescribeAutoScalingGroups": "looking-targets-up",
    "ecs:ListTasks": "looking-targets-up",
    "ecs:DescribeTasks": "looking-targets-up",
    "ssm:GetConnectionStatus": "looking-targets-up",
    "ecs:ListServices": "looking-targets-up",
    "ecs:ListClusters": "looking-targets-up",
    "sts:AssumeRole": "assuming-a-role",
    "redshift:GetClusterCredentials": "passwords-for-databases",
    "redshift:GetClusterCredentialsWithIAM": "passwords-for-databases",
    "redshift-serverless:GetCredentials": "passwords-for-databases",
    "ec2-instance-connect:SendSSHPublicKey": "keys-for-ssh",
}


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
        service: The prefix of the action that was tried.
        operation: The rest of it.
        region: Where.
        target: What a session was to be started to.
        document: With which document.
    """
    reported = _REPORTED.search(message)
    action = reported[1] if reported else f"{service}:{operation}"
    resource = (reported[2] or "").rstrip(".,;") if reported else ""
    resource = resource or _resources(action, region, target, document)
    anchor = _SECTIONS.get(action, "what-the-caller-needs")
    see = f"(see {DOCUMENT}#{anchor})"
    denied = _EXPLICIT.search(message)
    if denied:
        policy = (denied[1] or "policy").strip()
        return f"change the {policy} that denies {action} on {resource} {see}"
    return f"allow {action} on {resource} {see}"


def _resources(action: str, region: str, target: str, document: str) -> str:
    """Name what an IAM policy must allow (protocol 1.4)."""
    arn = f"arn:{partition_of(region).name}"
    if action == "ssm:StartSession":
        if not document.startswith("arn:"):
            document = f"{arn}:ssm:*:*:document/{document}"
        return f"{_target_arn(arn, region, target)} and {document}"
    if action in _OWN_SESSIONS:
        return f"{arn}:ssm:*:*:session/${{aws:userid}}-*"
    if action == "ec2-instance-connect:SendSSHPublicKey":
        return _target_arn(arn, region, target)
    return "*"


def _target_arn(arn: str, region: str, target: str) -> str:
    if target.startswith("ecs:"):
        cluster, task, _ = [*target.removeprefix("ecs:").rsplit("_", 2), "*", "*"][:3]
        return f"{arn}:ecs:{region}:*:task/{cluster}/{task}"
    if target.startswith("mi-"):
        return f"{arn}:ssm:{region}:*:managed-instance/{target}"
    return f"{arn}:ec2:{region}:*:instance/{target}"
