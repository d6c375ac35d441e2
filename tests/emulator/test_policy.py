"""IAM's rules, as AWS documents them."""

import pytest

from ssmtunneld.emulator.policy import ALLOW_ALL, Decision, Policy, Request, decide
from ssmtunneld.errors import ConfigError

INSTANCE = "arn:aws:ec2:eu-west-1:111122223333:instance/i-0123456789abcdef0"
SESSION = "arn:aws:ssm:eu-west-1:111122223333:session/dev-0a1b"


def policy(*statements, version="2012-10-17"):
    whole = [
        {"Effect": "Allow", "Action": "*", "Resource": "*", **s} for s in statements
    ]
    return Policy({"Version": version, "Statement": whole})


def says(*statements, action="ssm:StartSession", resource=INSTANCE, **context):
    return decide([policy(*statements)], Request(action, resource, context))


def allows(*statements, **request):
    return says(*statements, **request) is Decision.ALLOWED


def test_nothing_is_allowed_unless_it_is_said():
    request = Request("ssm:StartSession", INSTANCE, {})
    assert decide([], request) is Decision.IMPLICIT_DENY
    assert decide([Policy({"Statement": []})], request) is Decision.IMPLICIT_DENY
    assert decide([Policy(ALLOW_ALL)], request) is Decision.ALLOWED


def test_one_deny_beats_every_allow_wherever_it_stands():
    deny = {"Effect": "Deny", "Action": "ssm:Start*"}
    assert says({}, deny) is Decision.EXPLICIT_DENY
    assert says(deny, {}) is Decision.EXPLICIT_DENY
    assert allows({}, deny, action="ssm:ResumeSession")
    request = Request("ssm:StartSession", INSTANCE, {})
    together = decide([Policy(ALLOW_ALL), policy(deny)], request)
    assert together is Decision.EXPLICIT_DENY


@pytest.mark.parametrize(
    ("pattern", "matches"),
    [
        ("ssm:StartSession", True),
        ("SSM:startsession", True),
        ("ssm:Start*", True),
        ("ssm:?tartSession", True),
        ("*", True),
        ("ssm:Start", False),
        ("ssmmessages:*", False),
        ("ssm:StartSession2", False),
        ("ssm.StartSession", False),
    ],
)
def test_actions_are_matched_with_wildcards_and_without_case(pattern, matches):
    assert allows({"Action": pattern}) is matches
    assert allows({"Action": ["ec2:*", pattern]}) is matches


@pytest.mark.parametrize(
    ("pattern", "matches"),
    [
        (INSTANCE, True),
        ("*", True),
        ("arn:aws:ec2:*:*:instance/*", True),
        ("arn:aws:ec2:*:111122223333:instance/i-0123456789abcdef?", True),
        ("arn:*", False),
        ("arn:aws:ec2:*:instance/*", False),
        ("arn:aws:ec2:*:*:instance/I-0123456789ABCDEF0", False),
        ("arn:aws:ssm:*:*:managed-instance/*", False),
        ("arn:aws:ec2:eu-west-2:*:*", False),
    ],
)
def test_a_wildcard_in_a_resource_stays_in_its_part(pattern, matches):
    assert allows({"Resource": pattern}) is matches


def test_what_is_excepted_is_everything_else():
    only = {"Effect": "Allow", "NotAction": ["ssm:Resume*"], "Resource": "*"}
    document = Policy({"Statement": only})
    for action, wanted in (
        ("ssm:StartSession", Decision.ALLOWED),
        ("ssm:ResumeSession", Decision.IMPLICIT_DENY),
    ):
        assert decide([document], Request(action, INSTANCE, {})) is wanted
    others = {"Effect": "Deny", "Action": "*", "NotResource": INSTANCE}
    both = [Policy(ALLOW_ALL), Policy({"Statement": [others]})]
    asked = [
        decide(both, Request("ssm:StartSession", resource, {}))
        for resource in (INSTANCE, f"{INSTANCE}1")
    ]
    assert asked == [Decision.ALLOWED, Decision.EXPLICIT_DENY]


@pytest.mark.parametrize(
    ("operator", "wanted", "found", "holds"),
    [
        ("StringEquals", "a", "a", True),
        ("StringEquals", ["b", "a"], "a", True),
        ("StringEquals", "a", "A", False),
        ("StringEquals", "a*", "ab", False),
        ("StringEquals", "a", None, False),
        ("StringEqualsIfExists", "a", None, True),
        ("StringEqualsIfExists", "a", "b", False),
        ("StringNotEquals", "a", "b", True),
        ("StringNotEquals", ["a", "b"], "b", False),
        ("StringNotEquals", "a", None, True),
        ("StringEqualsIgnoreCase", "a", "A", True),
        ("StringNotEqualsIgnoreCase", "a", "A", False),
        ("StringLike", "a*", "abc", True),
        ("StringLike", "a?", "abc", False),
        ("StringNotLike", "a*", "abc", False),
        ("Bool", "true", "true", True),
        ("Bool", True, "true", True),
        ("Bool", "true", "false", False),
        ("BoolIfExists", "true", None, True),
        ("Null", "true", None, True),
        ("Null", "true", "a", False),
        ("Null", False, "a", True),
        ("ArnLike", "arn:aws:ecs:*:1:cluster/*", "arn:aws:ecs:eu:1:cluster/a", True),
        ("ArnEquals", "arn:aws:ecs:*:cluster/*", "arn:aws:ecs:eu:1:cluster/a", False),
        ("ArnNotLike", "*", "arn:aws:ecs:eu:1:cluster/a", False),
        ("ArnNotEquals", "arn:aws:s3:::b", "arn:aws:ecs:eu:1:cluster/a", True),
    ],
)
def test_conditions_compare_as_their_operators_say(operator, wanted, found, holds):
    context = {} if found is None else {"ssm:resourceTag/Role": found}
    condition = {operator: {"SSM:resourcetag/role": wanted}}
    assert allows({"Condition": condition}, **context) is holds


def test_all_conditions_must_hold():
    condition = {"StringEquals": {"a": "1", "b": "2"}, "StringLike": {"c": "*"}}
    statement = {"Condition": condition}
    assert allows(statement, a="1", b="2", c="x")
    assert not allows(statement, a="1", b="3", c="x")
    assert not allows(statement, a="1", b="2")


def own(variable):
    return {"Resource": f"arn:aws:ssm:*:*:session/{variable}-*"}


def test_variables_stand_for_what_is_known_of_the_caller():
    mine, other = {"aws:userid": "dev"}, {"aws:userid": "ops"}
    assert allows(own("${aws:userid}"), resource=SESSION, **mine)
    assert allows(own("${AWS:UserId}"), resource=SESSION, **mine)
    assert not allows(own("${aws:userid}"), resource=SESSION, **other)
    assert not allows(own("${aws:username}"), resource=SESSION, **mine)
    assert allows(own("${aws:username, 'dev'}"), resource=SESSION, **mine)
    equal = {"Condition": {"StringEquals": {"ssm:resourceTag/o": "${aws:userid}"}}}
    assert allows(equal, **mine, **{"ssm:resourceTag/o": "dev"})
    assert not allows(equal, **other, **{"ssm:resourceTag/o": "dev"})
    assert not allows(equal, **{"ssm:resourceTag/o": "${aws:userid}"})
    for operator in ("StringLike", "ArnLike", "StringEqualsIgnoreCase"):
        nobody = {"Condition": {operator: {"a": "${aws:nobody}"}}}
        assert not allows(nobody, a="")


def test_a_star_in_a_value_is_no_wildcard():
    assert not allows(own("${aws:userid}"), resource=SESSION, **{"aws:userid": "*"})
    assert not allows(own("${*}"), resource=SESSION)
    assert allows(own("${*}"), resource=SESSION.replace("dev", "*"))


def test_policies_of_the_first_version_know_no_variables():
    old = policy(own("${aws:userid}"), version="2008-10-17")
    request = Request("ssm:StartSession", SESSION, {"aws:userid": "dev"})
    assert decide([old], request) is Decision.IMPLICIT_DENY


@pytest.mark.parametrize(
    ("document", "problem"),
    [
        ({}, "expected an object with a Statement"),
        ({"Statement": "Allow"}, "a statement is not an object"),
        ({"Statement": {"Effect": "Maybe"}}, "neither Allow nor Deny"),
        ({"Statement": {"Effect": "Allow", "Principal": "*"}}, "Principal"),
        ({"Statement": {"Effect": "Allow", "Resource": "*"}}, "Action or NotAction"),
        ({"Statement": {"Effect": "Allow", "Action": "*"}}, "Resource or NotResource"),
        (
            {"Statement": {"Effect": "Allow", "Action": "*", "NotAction": "*"}},
            "either Action",
        ),
        ({"Statement": {"Effect": "Allow", "Action": 5, "Resource": "*"}}, "not text"),
        (
            {
                "Statement": {
                    "Sid": "S",
                    "Effect": "Deny",
                    "Action": "*",
                    "Resource": "*",
                    "Condition": {"IpAddress": {"aws:SourceIp": "10.0.0.0/8"}},
                }
            },
            "'S': condition IpAddress is not known here",
        ),
        (
            {
                "Statement": {
                    "Effect": "Deny",
                    "Action": "*",
                    "Resource": "*",
                    "Condition": ["x"],
                }
            },
            "Condition is not an object",
        ),
    ],
)
def test_what_is_not_understood_is_refused_when_it_is_read(document, problem):
    with pytest.raises(ConfigError, match=problem):
        Policy(document)
