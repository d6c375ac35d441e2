"""Targets: the shapes of ids, and what is said about everything else."""

import pytest

from ssmtunneld.aws.targets import TargetKind, parse_target

TASK = "0123456789abcdef0123456789abcdef"


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("i-0182d91e", TargetKind.INSTANCE),
        ("i-0182d91e85d69cf00", TargetKind.INSTANCE),
        ("mi-0182d91e85d69cf00", TargetKind.MANAGED),
        (f"ecs:prod_{TASK}_{TASK}-1234567890", TargetKind.TASK),
        (f"ecs:my_own_cluster_{TASK}_{TASK}-1234567890", TargetKind.TASK),
        (f"ecs:c_{TASK}_{'d' * 64}", TargetKind.TASK),
        (
            "ecs:c_01234567-89ab-cdef-0123-456789abcdef_0123456789abcdef-1",
            TargetKind.TASK,
        ),
    ],
)
def test_ids_are_taken_as_they_are(text, kind):
    target = parse_target(text)
    assert target.kind is kind
    assert target.id == str(target) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "i-",
        "i-0182d91e8",
        "i-0182D91E85D69CF00",
        "i-0182d91e85d69cf00\n",
        " i-0182d91e85d69cf00",
        "mi-0182d91e",
        "bastion",
        "tag:Role=bastion",
        f"ecs:{TASK}_{TASK}-1",
        f"ecs:prod/{TASK}/{TASK}-1234567890",
    ],
)
def test_anything_else_is_answered_with_the_shapes(text):
    with pytest.raises(ValueError, match="is not a target id: expected i-"):
        parse_target(text)
