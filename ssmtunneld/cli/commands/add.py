"""``ssmtunneld add``: one more tunnel in the file."""

from __future__ import annotations

import re
import tomllib
from typing import TYPE_CHECKING, Final

import click

from ssmtunneld.base.sentences import with_advice
from ssmtunneld.cli.ad_hoc import check_target, parse_destination
from ssmtunneld.cli.asides import tell
from ssmtunneld.cli.options import changed_file_option
from ssmtunneld.cli.setup import config_file
from ssmtunneld.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Container, Sequence
    from pathlib import Path


@click.command(
    epilog="Examples: `ssmtunneld add web 8080 --target i-0182d91e85d69cf00`; "
    "`ssmtunneld add orders-db orders.internal:5432 --target tag:Role=bastion "
    "--listen 15432 --set max_sessions=8`; "
    "`ssmtunneld add orders-db --from-discover orders`.",
)
@click.argument("name", metavar="NAME")
@click.argument("destination", metavar="[[HOST:]PORT]", required=False)
@click.option(
    "--target",
    metavar="TARGET",
    help="Where the agent runs. By default what [defaults] says.",
)
@click.option(
    "--listen",
    "addresses",
    multiple=True,
    metavar="ADDRESS",
    help="Where to listen; repeatable. By default the destination's port on "
    "localhost, with 10000 added below 1024, or the next one that no tunnel has.",
)
@click.option("--profile", metavar="NAME", help="The AWS profile.")
@click.option("--region", metavar="REGION", help="The AWS region.")
@click.option(
    "--from-discover",
    "resource",
    metavar="ID",
    help="Ask AWS where a database, cache, ... of this name is; see ssmtunneld "
    "discover. Its host and port are used (of an EKS cluster, its name), and a target "
    "of its VPC if --target and [defaults] have none.",
)
@click.option(
    "--set",
    "assignments",
    multiple=True,
    metavar="KEY=VALUE",
    help="Any other setting, with a value as in TOML; repeatable.",
)
@changed_file_option
def add(
    name: str,
    destination: str | None,
    *,
    addresses: tuple[str, ...],
    resource: str | None,
    assignments: tuple[str, ...],
    config_path: Path | None,
    **given: str | None,
) -> None:
    """Add a tunnel to the file, and let a running daemon take it over.

    The main file is changed, not one that it includes. Comments, order and spelling of
    everything else stay. A file that would be wrong afterwards is not written. Where
    there is none yet, one is made.
    """
    if given["target"] is not None:
        try:
            check_target(given["target"])
        except ValueError as error:
            raise click.UsageError(str(error)) from None
    path = config_file.place(config_path)
    before = config_file.read(path)
    settings: config_file.Settings = {**given, **_ends(destination)}
    if resource is not None:
        from ssmtunneld.cli.setup.discovered import settings_of

        inherited = config_file.defaults_in(before or "")
        settings |= settings_of(resource, settings, inherited)
    settings |= dict(map(_assignment, assignments))
    kept = {key: value for key, value in settings.items() if value is not None}
    text = before or ""
    others = config_file.sources(path, text).included
    texts = config_file.texts(text, others)
    held = {port for each in texts for port in config_file.ports_in(each)}
    listen, note = _listen(name, addresses, kept, held)
    own = {"listen": listen, **kept}
    after = config_file.with_tunnels(text, {name: own}, others)
    try:
        config_file.save(path, before, after)
    except ConfigError as error:
        raise ConfigError(_told_of(name, text, error.problems)) from None
    click.echo(f"{path}: added {name}")
    if note:
        tell(note)
    tell(config_file.reload_daemon(path))


def _told_of(name: str, text: str, problems: Sequence[str]) -> list[str]:
    """Return problems of a tunnel that is not written: its lines are nowhere.

    Args:
        name: Its name.
        text: The file as it stays.
        problems: Those of the file as it would have been.
    """
    last = len(text.removesuffix("\n").split("\n")) if text else 0
    return [_reworded(name, problem, last) for problem in problems]


def _reworded(name: str, problem: str, last: int) -> str:
    match = _PROBLEM.fullmatch(problem)
    if match is None or int(match["line"]) <= last:
        return problem
    if match["key"] is None:
        return f"{name!r} {match['said']}"
    said = f"{name}: {match['key']}: {match['said']}"
    if not match["said"].startswith("is required"):
        return said
    advice = _MISSING.get(match["key"], f"pass --set {match['key']}=...")
    return with_advice(said, advice)


_PROBLEM: Final = re.compile(
    r".*?:(?P<line>[0-9]+): tunnels\.(?:\"(?:[^\"\\]|\\.)*\"|[^.:\"]+)"
    r"(?:\.(?P<key>[^:]+))?: (?P<said>.*)"
)
"""A problem of a tunnel, as those of a file are told."""
_MISSING: Final = {
    "target": "pass --target",
    "port": "write it, or HOST:PORT, behind the name",
}
"""Words to add to the command, by the setting that is missing."""


def _ends(destination: str | None) -> dict[str, object]:
    if destination is None:
        return {}
    try:
        forward = parse_destination(destination)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    return {"host": forward.host, "port": forward.port}


def _listen(
    name: str,
    addresses: Sequence[str],
    settings: config_file.Settings,
    held: Container[int],
) -> tuple[object, str]:
    """Return where the tunnel listens, and why not on its destination's port, or "".

    Args:
        name: The tunnel's.
        addresses: Those of the command line.
        settings: The tunnel's others; ``listen`` is taken out of them.
        held: Ports of other tunnels.

    Raises:
        click.UsageError: Nothing tells where.
    """
    if "listen" in settings:
        return settings.pop("listen"), ""
    found = [int(text) if text.isdecimal() else text for text in addresses]
    if found:
        return (found[0] if len(found) == 1 else found), ""
    port = settings.get("port")
    if not isinstance(port, int):
        raise click.UsageError("where does it listen? name --listen, or a destination")
    from ssmtunneld.importing.found import next_port, usual_port, why_moved

    usual = usual_port(port)
    free = next_port(usual, held)
    if free != usual:
        return free, why_moved(name, usual, free)
    if usual != port:
        return (
            usual,
            f"{name} listens on port {usual}, because {port} needs a privilege",
        )
    return port, ""


def _assignment(text: str) -> tuple[str, object]:
    """Return the key and value of ``KEY=VALUE``; a bare word is text."""
    key, equals, value = text.partition("=")
    if not (key and equals):
        raise click.UsageError(f"--set {text}: write KEY=VALUE")
    try:
        return key, tomllib.loads(f"value = {value}")["value"]
    except ValueError:
        return key, value
