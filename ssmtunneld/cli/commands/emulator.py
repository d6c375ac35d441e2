"""``ssmtunneld emulator``: the AWS side on loopback, for trying and testing."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ssmtunneld.cli.options import refuse_alone

if TYPE_CHECKING:
    from ssmtunneld.emulator.path import PathSettings
    from ssmtunneld.emulator.settings import EmulatorSettings, Node


def _identities(
    _ctx: click.Context, _param: click.Parameter, texts: tuple[str, ...]
) -> dict[str, str]:
    from ssmtunneld.emulator.callers import is_identity

    found = dict(_pair("--identity", text) for text in texts)
    for arn in found.values():
        if not is_identity(arn):
            raise click.BadParameter(f"{arn!r} is not an ARN", param_hint="--identity")
    return found


def _policies(
    _ctx: click.Context, _param: click.Parameter, texts: tuple[str, ...]
) -> dict[str, dict[str, Any]]:
    found = {}
    for text in texts:
        key, equals, path = text.rpartition("=")
        if equals and not key.isalnum():
            key, path = "", text
        found[key] = _content("--policy", path)
    return found


def _nodes(
    _ctx: click.Context, _param: click.Parameter, texts: tuple[str, ...]
) -> dict[str, Node]:
    from ssmtunneld.emulator.settings import Node

    found = {}
    for text in texts:
        target, *rest = text.split(",")
        known = dict(_pair("--node", part) for part in rest)
        tags = {k[4:]: v for k, v in known.items() if k.startswith("tag:")}
        if strange := known.keys() - {"name", "ip", *(f"tag:{tag}" for tag in tags)}:
            raise click.BadParameter(
                f"{min(strange)!r} is not name, ip or tag:KEY", param_hint="--node"
            )
        found[target] = Node(
            name=known.get("name", ""), address=known.get("ip", ""), tags=tags
        )
    return found


def _approval(_ctx: click.Context, _param: click.Parameter, text: str) -> str | float:
    if text in {"auto", "manual", "reject"}:
        return text
    return _seconds("--approval", text)


def _access_duration(_ctx: click.Context, _param: click.Parameter, text: str) -> float:
    return _seconds("--access-duration", text)


def _stopped(
    _ctx: click.Context, _param: click.Parameter, texts: tuple[str, ...]
) -> frozenset[str]:
    return frozenset(texts)


def _boot_time(_ctx: click.Context, _param: click.Parameter, text: str) -> float:
    return _seconds("--boot-time", text)


def _path(
    _ctx: click.Context, _param: click.Parameter, text: str | None
) -> PathSettings | None:
    from ssmtunneld.emulator.path import PathSettings

    return None if text is None else PathSettings.parse(text)


@click.command(name="emulator")
@click.option(
    "--listen",
    default="127.0.0.1:0",
    show_default=True,
    metavar="HOST:PORT",
    help="Address to listen on; port 0 takes a free one.",
)
@click.option(
    "--pace",
    type=click.Choice(["real", "none"]),
    default="real",
    show_default=True,
    help="Speed of the agent: 1024 bytes and a pause of 1 ms, or unlimited.",
)
@click.option(
    "--agent-version",
    default="3.3.5068.0",
    show_default=True,
    help="Agent version to emulate; old ones lack mux, remote hosts and more.",
)
@click.option(
    "--require-signature",
    is_flag=True,
    help="Answer a websocket upgrade without a SigV4 signature with 403. The signature "
    "is verified with AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY where both are set.",
)
@click.option(
    "--fault",
    "faults",
    multiple=True,
    metavar="SPEC",
    help="Fault to inject, such as drop=0.02, up:delay=20ms or max-message=1024:1009; "
    "repeatable.",
)
@click.option(
    "--idle-timeout",
    default="20m",
    show_default=True,
    metavar="DURATION",
    help="Time without client input after which a session ends.",
)
@click.option(
    "--max-duration", metavar="DURATION", help="Time after which every session ends."
)
@click.option(
    "--path",
    callback=_path,
    metavar="SPEC",
    help="The network in between, such as delay=50ms,rate=10mbit,queue=50ms: shared by "
    "all connections, each direction by itself.",
)
@click.option(
    "--host-alias",
    "host_aliases",
    multiple=True,
    metavar="NAME=ADDRESS",
    help="Address that the agent resolves a remote host to; repeatable.",
)
@click.option(
    "--http-host",
    "http_hosts",
    multiple=True,
    metavar="NAME",
    help="A further name that requests may come to; loopback, AWS's names and those in "
    "the hosts file are allowed; repeatable.",
)
@click.option(
    "--offline",
    multiple=True,
    metavar="TARGET",
    help="Target whose agent is offline, whatever faults come and go; repeatable.",
)
@click.option(
    "--identity",
    "identities",
    multiple=True,
    callback=_identities,
    metavar="ACCESS_KEY=ARN",
    help="Another caller, who owns the sessions that are started with this access key; "
    "repeatable.",
)
@click.option(
    "--record",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write every message of every session here, as lines of JSON, without tokens "
    "and payloads.",
)
@click.option(
    "--record-payloads",
    is_flag=True,
    help="With --record, write what users send, too, in base64.",
)
@click.option(
    "--replay",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Play the agents' side of a recording with payloads, session by session.",
)
@click.option(
    "--policy",
    "policies",
    multiple=True,
    callback=_policies,
    metavar="[ACCESS_KEY=]FILE",
    help="An IAM policy, as JSON, of whoever has this access key, or of everybody "
    "else; repeatable.",
)
@click.option(
    "--approval",
    callback=_approval,
    default="auto",
    show_default=True,
    metavar="auto|SECONDS|manual|reject",
    help="What becomes of requests for node access: approved at once or after so long, "
    "left to POST /_emulator/access/ID/approve, or rejected.",
)
@click.option(
    "--access-duration",
    callback=_access_duration,
    default="1h",
    show_default=True,
    metavar="DURATION",
    help="Time for which node access is approved.",
)
@click.option(
    "--node",
    "nodes",
    multiple=True,
    callback=_nodes,
    metavar="TARGET[,name=N][,ip=A][,tag:K=V]",
    help="A target, and data that the API returns about it; repeatable. Without any, "
    "every well-formed id exists.",
)
@click.option(
    "--stopped",
    multiple=True,
    callback=_stopped,
    metavar="INSTANCE",
    help="Instance that is stopped, until StartInstances starts it; repeatable.",
)
@click.option(
    "--boot-time",
    callback=_boot_time,
    default="1s",
    show_default=True,
    metavar="DURATION",
    help="Time from an instance's start until its agent is connected.",
)
@click.option(
    "--document",
    "documents",
    multiple=True,
    metavar="NAME=FILE",
    help="A custom session document of type Port, as JSON; repeatable.",
)
@click.option(
    "--tls-cert",
    "tls_certificate",
    type=click.Path(exists=True, path_type=Path),
    metavar="FILE",
    help="Certificate chain for TLS, as PEM.",
)
@click.option(
    "--tls-key",
    type=click.Path(exists=True, path_type=Path),
    metavar="FILE",
    help="Its private key, as PEM.",
)
@click.option(
    "--stream-endpoint",
    metavar="URL",
    help="Start of StreamUrl instead of this address, such as "
    "wss://ssmmessages.eu-west-1.amazonaws.com.",
)
@click.option(
    "--allow-remote",
    is_flag=True,
    help="Listen on, and connect to, addresses that are not loopback.",
)
@click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"]),
    default="info",
    show_default=True,
    help="Minimum severity to log on standard error.",
)
def emulator(**options: Any) -> None:
    """Emulate the AWS side of Session Manager on loopback.

    Serves the API and the data channel. Point a client at it with AWS_ENDPOINT_URL_SSM.
    Runs until SIGTERM or SIGINT.
    """
    refuse_alone("record_payloads", "--record", given=options["record"] is not None)
    refuse_alone("tls_key", "--tls-cert", given=options["tls_certificate"] is not None)
    import asyncio

    from ssmtunneld.daemon.process import loop_factory
    from ssmtunneld.observe import logs

    logs.configure(options.pop("log_level"), "auto")
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(_serve(_settings(**options)))


async def _serve(settings: EmulatorSettings) -> None:
    import asyncio
    import signal

    from ssmtunneld.emulator.server import Emulator

    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with Emulator(settings) as emulator:
        click.echo(f"emulator listening on {emulator.endpoint_url}")
        await stop.wait()


def _settings(
    *,
    listen: str,
    idle_timeout: str,
    max_duration: str | None,
    pace: str,
    offline: tuple[str, ...],
    host_aliases: tuple[str, ...],
    documents: tuple[str, ...],
    **rest: Any,
) -> EmulatorSettings:
    from ssmtunneld.emulator.settings import EmulatorSettings, Pace

    host, port = _address(listen)
    return EmulatorSettings(
        host=host,
        port=port,
        pace=Pace(pace),
        offline=frozenset(offline),
        idle_timeout=_seconds("--idle-timeout", idle_timeout),
        max_duration=(
            None if max_duration is None else _seconds("--max-duration", max_duration)
        ),
        host_aliases=dict(_pair("--host-alias", text) for text in host_aliases),
        documents={
            name: _content("--document", path)
            for name, path in (_pair("--document", text) for text in documents)
        },
        **_credentials(),
        **rest,
    )


def _address(listen: str) -> tuple[str, int]:
    host, colon, port = listen.rpartition(":")
    if not (colon and host and port.isdecimal() and int(port) < 65536):
        raise click.BadParameter(f"{listen!r} is not HOST:PORT", param_hint="--listen")
    return host.strip("[]"), int(port)


def _seconds(option: str, text: str) -> float:
    from ssmtunneld.emulator.faults import duration

    try:
        return duration(text)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint=option) from None


def _pair(option: str, text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name and equals and value):
        raise click.BadParameter(f"{text!r} is not NAME=VALUE", param_hint=option)
    return name, value


def _content(option: str, path: str) -> dict[str, Any]:
    import json

    try:
        content = json.loads(Path(path).read_bytes())
    except (OSError, ValueError) as error:
        raise click.BadParameter(f"{path}: {error}", param_hint=option) from None
    if not isinstance(content, dict):
        raise click.BadParameter(f"{path} is not an object", param_hint=option)
    return content


def _credentials() -> dict[str, Any]:
    import os

    from ssmtunneld.base.secret import Secret

    key = os.environ.get("AWS_ACCESS_KEY_ID")
    secret = os.environ.get("AWS_SECRET_ACCESS_KEY")
    if not (key and secret):
        return {}
    return {"access_key": key, "secret_key": Secret(secret)}
