"""Advice on policies, and the document that it sends its reader to."""

import json
import re
from pathlib import Path

import pytest

from ssmtunneld.aws.permissions import _SECTIONS, DOCUMENT, advise

TEXT = (Path(__file__).parents[2] / DOCUMENT).read_text()
BLOCKS = [json.loads(b) for b in re.findall(r"```json\n(.*?)```", TEXT, re.DOTALL)]
RESOURCE = "arn:aws:ec2:eu-west-1:111122223333:instance/i-0182d91e85d69cf00"
REPORTED = (
    "User: arn:aws:sts::111122223333:assumed-role/Dev/me is not authorized to perform: "
    f"ssm:StartSession on resource: {RESOURCE} "
)


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
    assert advice(REPORTED + because, target="i-1", document="Other") == (
        f"allow ssm:StartSession on {RESOURCE} (see docs/iam.md#named-instances)"
    )


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
        "allow ec2:DescribeInstances on * (see docs/iam.md#looking-targets-up)"
    )
    assert advice("no", "OpenDataChannel", "ssmmessages") == (
        "allow ssmmessages:OpenDataChannel on arn:aws:ssm:*:*:session/${aws:userid}-* "
        "(see docs/iam.md#the-callers-own-sessions)"
    )
    partial = "not authorized to perform: ssm:DescribeSessions"
    assert advice(partial, "DescribeSessions") == (
        "allow ssm:DescribeSessions on * (see docs/iam.md#what-the-caller-needs)"
    )


def anchors():
    """Return what headings are called in links."""
    for heading in re.findall(r"^#+ (.+)$", TEXT, re.MULTILINE):
        kept = re.sub(r"[^\w\- ]", "", heading.lower())
        yield kept.replace(" ", "-")


def test_every_section_that_is_linked_to_exists():
    assert {*_SECTIONS.values(), "what-the-caller-needs"} <= set(anchors())


def statements(found):
    """Return all statements of a block: of a policy, a list of them, or one."""
    if isinstance(found, list):
        return found
    return found.get("Statement", [found])


def listed(value):
    return value if isinstance(value, list) else [value]


def policies():
    return [b for b in BLOCKS if isinstance(b, list) or "sessionType" not in b]


def test_every_policy_is_one():
    assert len(policies()) >= 6
    for statement in (s for block in policies() for s in statements(block)):
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


def test_everything_that_is_ever_called_is_in_a_policy():
    given = {
        action
        for block in policies()
        for statement in statements(block)
        for action in listed(statement["Action"])
    }
    assert set(_SECTIONS) | {"ssm:DescribeSessions"} <= given
    assert not any("*" in action for action in given)
