"""Advice on policies, and the document that it sends its reader to."""

import ast
import json
import re
from pathlib import Path

import pytest

from ssmtunneld.aws.api.permissions import _SECTIONS, _action, advise, section

TEXT = (Path(__file__).parents[3] / "docs" / "iam.md").read_text()
RESOURCE = "arn:aws:ec2:eu-west-1:111122223333:instance/i-0182d91e85d69cf00"
REPORTED = (
    "User: arn:aws:sts::111122223333:assumed-role/Dev/me is not authorized to perform: "
    f"ssm:StartSession on resource: {RESOURCE} "
)


def _blocks(text):
    return [json.loads(b) for b in re.findall(r"```json\n(.*?)```", text, re.DOTALL)]


def advice(message, operation="StartSession", service="ssm", **more):
    return advise(
        message, service=service, operation=operation, region="eu-west-1", **more
    )


@pytest.mark.parametrize(
    "because",
    [
        "because no identity-based policy allows the ssm:StartSession action",
        "",
        "because no session policy allows the ssm:StartSession action",
    ],
)
def test_what_aws_reports_is_what_is_to_be_allowed(because):
    # AWS names the first of two that are missing, and the next time the other one.
    document = "arn:aws:ssm:*:*:document/Other"
    assert advice(REPORTED + because, target="i-1", document="Other") == (
        f"allow ssm:StartSession on {RESOURCE} and {document} "
        "(see https://github.com/ssmtunneld/ssmtunneld/blob/main/docs/iam.md"
        "#named-instances)"
    )
    of_document = f"{REPORTED}{because}".replace(RESOURCE, document)
    assert f" on {document} (see" in advice(of_document, document="Other")


@pytest.mark.parametrize(
    ("policy", "named"),
    [
        ("an identity-based policy", "identity-based policy"),
        ("a service control policy", "service control policy"),
    ],
)
def test_an_explicit_deny_is_to_be_changed(policy, named):
    said = advice(f"{REPORTED}with an explicit deny in {policy}")
    assert said.startswith(f"change the {named} that denies ssm:StartSession on arn:")
    assert advice(f"{REPORTED}with an explicit deny").startswith("change the policy")


def test_without_a_report_it_is_what_the_call_needs():
    assert advice("no", "DescribeInstances", "ec2") == (
        f"allow ec2:DescribeInstances on * (see {section('Looking targets up')})"
    )
    assert advice("no", "OpenDataChannel", "ssmmessages") == (
        "allow ssmmessages:OpenDataChannel on arn:aws:ssm:*:*:session/${aws:userid}-* "
        f"(see {section('The callers own sessions')})"
    )
    partial = "not authorized to perform: ssm:DescribeSessions"
    assert advice(partial, "DescribeSessions") == (
        f"allow ssm:DescribeSessions on * (see {section('What the caller needs')})"
    )


@pytest.mark.parametrize(
    ("target", "arn"),
    [
        ("i-1", "arn:aws:ec2:eu-west-1:*:instance/i-1"),
        ("mi-1", "arn:aws:ssm:eu-west-1:*:managed-instance/mi-1"),
        ("ecs:prod_1_2-3", "arn:aws:ecs:eu-west-1:*:task/prod/1"),
    ],
)
def test_a_start_needs_the_target_and_the_document(target, arn):
    said = advice("no", target=target, document="Acme-Own")
    assert f"allow ssm:StartSession on {arn} and arn:aws:ssm:*:*:document/Acme" in said
    whole = "arn:aws:ssm:eu-west-1:1:document/Own"
    assert f"{arn} and {whole} (" in advice("no", target=target, document=whole)


def test_a_service_has_the_name_that_policies_call_it():
    assert advice("no", "DescribeListeners", "elbv2") == (
        "allow elasticloadbalancing:DescribeListeners on * "
        f"(see {section('Discovering destinations')})"
    )


def test_a_key_for_ssh_needs_the_instance():
    said = advice("no", "SendSSHPublicKey", "ec2-instance-connect", target="i-1")
    resource = "arn:aws:ec2:eu-west-1:*:instance/i-1"
    assert f"allow ec2-instance-connect:SendSSHPublicKey on {resource} (see" in said


def test_every_section_that_advice_names_exists():
    titles = set(re.findall(r"^#+ (.+)$", TEXT, re.MULTILINE))
    assert {*_SECTIONS.values(), "What the caller needs"} <= titles


def statements(found):
    """Return all statements of a block: of a policy, a list of them, or one."""
    if isinstance(found, list):
        return found
    return found.get("Statement", [found])


def listed(value):
    return value if isinstance(value, list) else [value]


def policies():
    """Return what the caller needs; the target has a section of its own."""
    blocks = _blocks(TEXT.partition("\n## What the target needs")[0])
    return [b for b in blocks if isinstance(b, list) or "sessionType" not in b]


def test_every_policy_is_one():
    assert len(policies()) >= 6
    every = [b for b in _blocks(TEXT) if isinstance(b, list) or "sessionType" not in b]
    for statement in (s for block in every for s in statements(block)):
        assert statement["Effect"] == "Allow"
        assert all(":" in action for action in listed(statement["Action"]))
        if "Principal" not in statement:
            assert listed(statement["Resource"])
        assert statement.keys() <= {
            "Sid",
            "Effect",
            "Action",
            "Resource",
            "Condition",
            "Principal",
        }


def given():
    """Return the actions of all policies."""
    return {
        action
        for block in policies()
        for statement in statements(block)
        for action in listed(statement["Action"])
    }


_CALLS = {
    "call": 1,
    "_call": 1,
    "call_service": 2,
    "pages": 2,
    "_items": 2,
    "_names": 2,
    "_run_dry": 2,
}
"""Callers of an API: 2 if the name of the service precedes the action's, else 1."""
_NAMESAKES = {("sessions.py", "pages"), ("ssm.py", "pages")}
_FORWARDS = {
    ("client.py", "call"),
    ("client.py", "call_service"),
    ("bastions.py", "_run_dry"),
    ("sessions.py", "_call"),
    ("search.py", "pages"),
    ("discovery.py", "_pages"),
}
_WITHOUT_PERMISSION = {"sts:GetCallerIdentity"}
"""AWS: "No permissions are required to perform this operation"."""
_SIGNED = {"ssmmessages:OpenDataChannel", "rds-db:connect"}
"""Signed here, and checked elsewhere."""


def calls_in(path):
    """Yield the actions that a module calls, as its source says."""
    tree = ast.parse(path.read_text())
    forwards = {
        id(inner)
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef)
        and (path.name, function.name) in _FORWARDS
        for inner in ast.walk(function)
    }
    texts = {
        ast.unparse(node): node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    } | {
        ast.unparse(node.target): node.value.value
        for node in tree.body
        if isinstance(node, ast.AnnAssign) and isinstance(node.value, ast.Constant)
    }
    locally = {
        id(inner): _local_texts(function)
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef)
        for inner in ast.walk(function)
    }
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or id(node) in forwards:
            continue
        name = getattr(node.func, "attr", getattr(node.func, "id", ""))
        if name not in _CALLS or (path.name, name) in _NAMESAKES:
            continue
        known = texts | locally.get(id(node), {})
        found = [known.get(ast.unparse(argument)) for argument in node.args]
        words = [word for word in found if word][: _CALLS[name]]
        where = f"{path.name}:{node.lineno}"
        assert len(words) == _CALLS[name], f"{where} does not say what it calls"
        yield _action(*(words if len(words) == 2 else ["ssm", *words])), where


def _local_texts(function):
    """Return the texts that a function gives names to."""
    return {
        ast.unparse(node.targets[0]): node.value.value
        for node in ast.walk(function)
        if isinstance(node, ast.Assign)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    }


def called():
    """Return all actions that the program calls, with a place for each."""
    package = Path(__file__).parents[3] / "ssmtunneld"
    modules = [*package.glob("aws/**/*.py"), *package.glob("doctor/*.py")]
    found = {action: at for path in modules for action, at in calls_in(path)}
    assert len(found) > 10, "the calls are written in another way now"
    return found


def test_everything_that_is_ever_called_is_in_a_policy():
    missing = {
        action: where
        for action, where in called().items()
        if action not in given() | _WITHOUT_PERMISSION
    }
    assert not missing
    assert given() >= _SIGNED
    assert not any("*" in action for action in given())


def test_nothing_else_is():
    # Botocore assumes roles by itself.
    assert given() == (set(called()) - _WITHOUT_PERMISSION) | _SIGNED | {
        "sts:AssumeRole"
    }


def test_what_is_denied_leads_to_the_section_with_its_policy():
    titles = re.findall(r"^#+ (.+)$", TEXT, re.MULTILINE)
    for action in given() - {"rds-db:connect"}:
        service, operation = action.split(":")
        told = advice("no", operation, service)
        title = next(t for t in titles if told.endswith(f"(see {section(t)})"))
        text = TEXT.split(f"# {title}\n")[1].partition("\n## ")[0]
        assert f'"{action}"' in text or f"`{action}`" in text, (action, title)
