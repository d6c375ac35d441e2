"""Groups of tunnels: the tunnels that ``--group`` chooses."""

import shlex
from collections.abc import Iterable, Sequence

from ssmtunneld.base.nearest import nearest
from ssmtunneld.config.model import Config, TunnelSettings
from ssmtunneld.errors import ConfigError


def groups_of(tunnels: Iterable[TunnelSettings]) -> list[str]:
    """Return the names of the groups of ``tunnels``, sorted."""
    return sorted({group for tunnel in tunnels for group in tunnel.groups})


def in_groups(config: Config, groups: Sequence[str]) -> Config:
    """Return ``config`` with the tunnels of ``groups`` only; all of them without any.

    Raises:
        ConfigError: A group has no tunnel; names the groups that there are.
    """
    if not groups:
        return config
    known = groups_of(config.tunnels)
    missing = [group for group in dict.fromkeys(groups) if group not in known]
    if missing:
        source = config.source
        raise ConfigError(
            [f"{source}: {'; '.join(no_such_group(name, known))}" for name in missing]
        )
    wanted = set(groups)
    chosen = tuple(t for t in config.tunnels if wanted.intersection(t.groups))
    return config.model_copy(update={"tunnels": chosen})


def no_such_group(name: str, known: Sequence[str]) -> tuple[str, str]:
    """Return what is wrong with a group's name, and what to do.

    Args:
        name: What somebody typed.
        known: The groups that there are.
    """
    problem = f"no tunnel is in group {shlex.quote(name)}"
    if not known:
        return problem, 'no tunnel has groups, such as groups = ["orders"]'
    near = nearest(name, known)
    guess = f"did you mean {near[0]}? " if near else ""
    return problem, f"{guess}the groups are: {', '.join(known)}"
