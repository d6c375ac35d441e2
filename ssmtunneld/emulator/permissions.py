"""Permissions of callers: their policies, and the actions of each API call.

Where AWS's documents leave a question open, docs/emulator.md says what was guessed.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from ssmtunneld.emulator.callers import Caller, user_id
from ssmtunneld.emulator.policy import ALLOW_ALL, Decision, Policy, Request, decide
from ssmtunneld.emulator.session import Session
from ssmtunneld.emulator.settings import EmulatorSettings

EVERYBODY: Final = ""
"""In place of an access key: the policy of callers who have none of their own."""
DEFAULT_DOCUMENT: Final = "SSM-SessionManagerRunShell"
DOCUMENT_CHECK: Final = "ssm:SessionDocumentAccessCheck"
OPEN_DATA_CHANNEL: Final = "ssmmessages:OpenDataChannel"

_SERVICES: Final = {
    "AmazonEC2": "ec2",
    "AmazonSSM": "ssm",
    "AWSEC2InstanceConnectService": "ec2-instance-connect",
}


def service_of(name: str) -> str:
    """Return the service of a call, as boto3 and policies spell it.

    Args:
        name: What ``X-Amz-Target`` says; without a service it is SSM's.
    """
    return _SERVICES.get(name.rpartition(".")[0], "ssm")


class Permissions:
    """Decides for all callers.

    Args:
        settings: The policies at the start, and the nodes' tags.

    Raises:
        ConfigError: A policy cannot be read.
    """

    def __init__(self, settings: EmulatorSettings) -> None:
        self._settings = settings
        self._policies: dict[str, Policy] = {}
        self._denied: list[tuple[str | None, Policy]] = []
        for key, document in settings.policies.items():
            self.set(key, document)

    def set(self, key: str, document: Mapping[str, Any] | None) -> None:
        """Give whoever has the access key ``key`` another policy; None is all.

        Raises:
            ConfigError: It cannot be read; nothing has changed.
        """
        self._policies[key] = Policy(ALLOW_ALL if document is None else document)

    def forget(self, key: str) -> None:
        """Take the policy of whoever has the access key ``key`` away."""
        self._policies.pop(key, None)

    def deny(self, actions: list[str], key: str | None = None) -> None:
        """Deny ``actions``, to everybody or to whoever has the access key ``key``."""
        statement = {"Effect": "Deny", "Action": actions, "Resource": "*"}
        self._denied.append((key, Policy({"Statement": statement})))

    def forgive(self) -> None:
        """Forget what `deny` has denied."""
        self._denied.clear()

    def refusal(
        self, caller: Caller, name: str, body: Mapping[str, Any], found: Session | None
    ) -> str:
        """Return why a call of the API is refused, in AWS's words; empty if it is not.

        Args:
            caller: Who calls.
            name: The operation; with its service, unless that is SSM.
            body: The call's.
            found: The session that it names, if there is one.
        """
        operation = name.rpartition(".")[2]
        action = f"{service_of(name)}:{operation}"
        if operation == "StartSession":
            return self._start(caller, action, body)
        if operation == "StartAccessRequest":
            nodes = tuple(target_arn(target, caller) for target in asked_targets(body))
            return self._refuse(caller, action, nodes or ("*",), {})
        if operation in ("ResumeSession", "TerminateSession"):
            session_id = body.get("SessionId")
            return self._on_session(caller, action, str(session_id), found)
        if asked := body.get("InstanceIds"):
            arns = tuple(target_arn(str(instance), caller) for instance in asked)
            return self._refuse(caller, action, arns, {})
        if operation == "SendSSHPublicKey":
            target = target_arn(str(body.get("InstanceId")), caller)
            context = {"ec2:osuser": str(body.get("InstanceOSUser"))}
            return self._refuse(caller, action, (target,), context)
        return self._refuse(caller, action, ("*",), {})

    def may_open(self, caller: Caller, session: Session) -> bool:
        """Say whether ``caller`` may open the data channel of ``session``."""
        said = self._on_session(caller, OPEN_DATA_CHANNEL, session.id, session)
        return not said

    def _start(self, caller: Caller, action: str, body: Mapping[str, Any]) -> str:
        target = str(body.get("Target"))
        arn = target_arn(target, caller)
        node = self._settings.nodes.get(target)
        tags = _tags(node.tags if node is not None else {})
        named = body.get("DocumentName")
        if named is None:
            # Without a name the document is asked for only where a policy says so.
            unchecked = {**tags, DOCUMENT_CHECK: "false"}
            if not self._refuse(caller, action, (arn,), unchecked):
                return ""
        checked = {DOCUMENT_CHECK: "true"}
        document = document_arn(str(named or DEFAULT_DOCUMENT), caller)
        return self._refuse(
            caller, action, (arn,), {**tags, **checked}
        ) or self._refuse(caller, action, (document,), checked)

    def _on_session(
        self, caller: Caller, action: str, session_id: str, found: Session | None
    ) -> str:
        prefix = f"arn:{caller.partition}:ssm:{caller.region}:{caller.account}:session"
        arns = [f"{prefix}/{session_id}"]
        context = {}
        if found is not None:
            owner = user_id(found.request.owner or self._settings.owner)
            # A session's id begins with its owner's name; AWS's samples compare it with
            # the unique id, so either of them is taken.
            tail = session_id.rpartition("-")[2]
            arns.append(f"{prefix}/{owner}-{tail}")
            context = _tags(
                {
                    "aws:ssmmessages:session-id": owner,
                    "aws:ssmmessages:target-id": found.request.target,
                }
            )
        return self._refuse(caller, action, tuple(arns), context)

    def _refuse(
        self,
        caller: Caller,
        action: str,
        arns: tuple[str, ...],
        context: Mapping[str, str],
    ) -> str:
        """Return why ``action`` is refused on what all of ``arns`` are names of."""
        policies = list(self._of(caller))
        full = {**caller.context(), **context}
        decisions = {decide(policies, Request(action, arn, full)) for arn in arns}
        said = (
            f"User: {caller.arn} is not authorized to perform: {action} on resource: "
        )
        if Decision.EXPLICIT_DENY in decisions:
            why = "with an explicit deny in an identity-based policy"
        elif Decision.ALLOWED in decisions:
            return ""
        else:
            why = f"because no identity-based policy allows the {action} action"
        return f"{said}{arns[0]} {why}"

    def _of(self, caller: Caller) -> Iterator[Policy]:
        default = self._policies.get(EVERYBODY)
        yield self._policies.get(caller.key) or default or _EVERYTHING
        for key, policy in self._denied:
            if key is None or key == caller.key:
                yield policy


_EVERYTHING: Final = Policy(ALLOW_ALL)


def asked_targets(body: Mapping[str, Any]) -> list[str]:
    """Return the nodes that a StartAccessRequest names."""
    targets = body.get("Targets")
    asked = targets if isinstance(targets, list) else []
    return [
        value
        for item in asked
        if isinstance(item, Mapping) and item.get("Key") == "InstanceIds"
        for value in item.get("Values") or ()
        if isinstance(value, str)
    ]


def target_arn(target: str, caller: Caller) -> str:
    """Return the ARN of what a session is started to."""
    place = f"{caller.region}:{caller.account}"
    if target.startswith("ecs:"):
        cluster, _, rest = target.removeprefix("ecs:").partition("_")
        task = rest.partition("_")[0]
        return f"arn:{caller.partition}:ecs:{place}:task/{cluster}/{task}"
    if target.startswith("mi-"):
        return f"arn:{caller.partition}:ssm:{place}:managed-instance/{target}"
    return f"arn:{caller.partition}:ec2:{place}:instance/{target}"


def document_arn(name: str, caller: Caller) -> str:
    """Return the ARN of a document; AWS's own belong to no account."""
    if name.startswith("arn:"):
        return name
    owner = "" if name.startswith("AWS-") else caller.account
    return f"arn:{caller.partition}:ssm:{caller.region}:{owner}:document/{name}"


def _tags(tags: Mapping[str, str]) -> dict[str, str]:
    """Return the condition keys by which policies ask for tags of a resource."""
    keys = ("ssm:resourceTag", "aws:ResourceTag", "ec2:ResourceTag")
    return {f"{key}/{name}": value for name, value in tags.items() for key in keys}
