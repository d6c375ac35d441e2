"""What may stand for the far end of a session: target ids (protocol 1.3)."""

import re
from dataclasses import dataclass
from enum import Enum
from typing import Final

from typing_extensions import override


class TargetKind(Enum):
    """What sort of thing runs the agent."""

    INSTANCE = "EC2 instance"
    MANAGED = "managed node"
    TASK = "ECS task"


@dataclass(frozen=True, slots=True)
class Target:
    """An id that StartSession takes as it is."""

    kind: TargetKind
    id: str

    @override
    def __str__(self) -> str:
        return self.id


# A cluster's name may contain underscores; a task's id is 32 hex digits, and was a
# UUID before 2019. The runtime id is the task's id, a dash and digits on Fargate, and
# Docker's container id elsewhere.
_SHAPES: Final = {
    TargetKind.INSTANCE: re.compile(r"i-(?:[0-9a-f]{8}|[0-9a-f]{17})"),
    TargetKind.MANAGED: re.compile(r"mi-[0-9a-f]{17}"),
    TargetKind.TASK: re.compile(
        r"ecs:[A-Za-z0-9_-]{1,255}_[0-9a-f-]{32,36}_[0-9A-Za-z-]{8,128}"
    ),
}


def parse_target(text: str) -> Target:
    """Return the target that ``text`` names.

    Raises:
        ValueError: It has none of the shapes of a target id; the message lists them.
    """
    for kind, shape in _SHAPES.items():
        if shape.fullmatch(text):
            return Target(kind, text)
    raise ValueError(
        f"{text!r} is not a target id: expected i- and 8 or 17 hex digits, mi- and 17 "
        "hex digits, or ecs:<cluster>_<task id>_<container runtime id>"
    )
