"""Targets: ids, what they are found by, and what is said about everything else."""

from ipaddress import ip_address

import pytest

from ssmtunneld.config.targets import (
    AddressTarget,
    FixedTarget,
    GroupTarget,
    HostTarget,
    ServiceTarget,
    TaggedTarget,
    meant_by,
    parse_target,
)

TASK = "0123456789abcdef0123456789abcdef"


@pytest.mark.parametrize(
    "text",
    [
        "i-0182d91e",
        "i-0182d91e85d69cf00",
        "mi-0182d91e85d69cf00",
        f"ecs:prod_{TASK}_{TASK}-1234567890",
        f"ecs:my_own_cluster_{TASK}_{TASK}-1234567890",
        f"ecs:c_{TASK}_{'d' * 64}",
        "ecs:c_01234567-89ab-cdef-0123-456789abcdef_0123456789abcdef-1",
    ],
)
def test_ids_are_taken_as_they_are(text):
    assert parse_target(text) == FixedTarget(text)
    assert str(parse_target(text)) == text


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("name:web-1", TaggedTarget((("Name", "web-1"),))),
        ("name:a web: (1)", TaggedTarget((("Name", "a web: (1)"),))),
        ("tag:Role=bastion", TaggedTarget((("Role", "bastion"),))),
        ("tag:aws:x/y=a=b", TaggedTarget((("aws:x/y", "a=b"),))),
        ("tag:Empty=", TaggedTarget((("Empty", ""),))),
        (
            "tag:Role=bastion,tag:Env=a,b",
            TaggedTarget((("Role", "bastion"), ("Env", "a,b"))),
        ),
        ("asg:bastions-2026", GroupTarget("bastions-2026")),
        ("ip:10.0.0.5", AddressTarget(ip_address("10.0.0.5"))),
        ("ip:2001:DB8::5", AddressTarget(ip_address("2001:db8::5"))),
        (
            "dns:IP-10-0-0-5.eu-west-1.compute.internal",
            HostTarget("ip-10-0-0-5.eu-west-1.compute.internal"),
        ),
        ("ecs:prod/api", ServiceTarget("prod", "api")),
        ("ecs:my_prod/api/app", ServiceTarget("my_prod", "api", "app")),
    ],
)
def test_what_is_to_be_searched_is_understood(text, target):
    assert parse_target(text) == target
    assert parse_target(str(target)) == target


@pytest.mark.parametrize(
    ("text", "cure"),
    [
        ("", "is not a target: write i-"),
        ("i-", "is not a target: write i-"),
        ("i-0182d91e8", "an instance id has 8 or 17 hex digits after i-, and this on"),
        ("i-0182d91e8", "and this one has 9"),
        ("i-0182d91x", "8 or 17 hex digits after i-, and this one has others"),
        ("i-0182D91E85D69CF00", "write the hex digits of an id in small letters"),
        ("i-0182d91e85d69cf00\n", "is not a target: write i-"),
        (" i-0182d91e85d69cf00", "is not a target: write i-"),
        ("mi-0182d91e", "a node id has 17 hex digits after mi-, and this one has 8"),
        ("i-web-1", "is not a target: write i-"),
        ("bastion", "is not a target: write i-"),
        ("web 1", "is not a target: write i-"),
        ("name:", "is not a target: write i-"),
        ("name: web", "is not a target: write i-"),
        ("name:we\tb", "is not a target: write i-"),
        ("eks:cluster", "is not a target: write i-"),
        ("tag:Role", "write tag:Key=Value, not Role"),
        ("tag:=bastion", "write tag:Key=Value, not =bastion"),
        ("tag:Role=a,tag:Env", "write tag:Key=Value, not Env"),
        ("ip:10.0.0", "is not an IP address: write ip:10.0.0.5"),
        ("dns:-x", "is not a private DNS name"),
        ("ecs:prod", "is not an ECS target: write ecs:cluster/service"),
        ("ecs:prod/api/app/x", "is not an ECS target"),
        ("ecs:arn:aws:ecs/x", "is not an ECS target"),
    ],
)
def test_anything_else_is_answered_with_what_to_write(text, cure):
    with pytest.raises(ValueError, match=r"^is not") as caught:
        parse_target(text)
    assert cure in str(caught.value)


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("web-1", "name:web-1"),
        ("10.0.0.5", "ip:10.0.0.5"),
        ("fd00::5", "ip:fd00::5"),
        ("prod/api", "ecs:prod/api"),
        ("Role=bastion", "tag:Role=bastion"),
        (
            "ip-10-0-0-5.eu-west-1.compute.internal",
            "dns:ip-10-0-0-5.eu-west-1.compute.internal",
        ),
    ],
)
def test_a_word_without_its_kind_means_what_it_looks_like(text, meant):
    assert meant_by(text) == meant
    assert str(parse_target(meant)) == str(parse_target(meant_by(text)))


@pytest.mark.parametrize("text", ["", "i-0182d91e8", "mi-1", "web 1", "a\tb", "name:"])
def test_what_looks_like_nothing_means_nothing(text):
    assert meant_by(text) == ""
