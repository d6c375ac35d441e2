"""The arguments of a comparison, and the comparison that they ask for."""

import argparse
import signal
import sys
from pathlib import Path

from benchmarks.beside.contest import Conditions, Contender, measure
from benchmarks.beside.forwarder import PLACEHOLDERS, split
from benchmarks.beside.table import render
from ssmtunneld.emulator.path import PathSettings
from ssmtunneld.errors import ConfigError

OURS = "ssmtunneld"
OUR_COMMAND = (
    f"{sys.executable} -m ssmtunneld open {{target}} {{port}} "
    "--listen 127.0.0.1:{local_port} --endpoint-url {endpoint} --region {region}"
)
RELAY = "relay"
"""Name of the floor of a first byte, ``opened`` of :mod:`benchmarks.floors`."""

EXAMPLES = (
    "pyssm port-forward --target {target} --remote-port {port}"
    " --local-port {local_port} --region {region} --endpoint-url {endpoint}",
    "aws ssm start-session --target {target}"
    " --document-name AWS-StartPortForwardingSession"
    " --parameters portNumber={port},localPortNumber={local_port}"
    " --region {region} --endpoint-url {endpoint}",
)
"""Of pyssm-client, and of the AWS CLI with session-manager-plugin in PATH."""


def epilog() -> str:
    """Return what ``--help`` says of COMMAND."""
    names = "".join(f"  {{{name}}}: {said}\n" for name, said in PLACEHOLDERS.items())
    return (
        "COMMAND is split as a shell would, but no shell runs it. In it may stand\n"
        f"{names}"
        "AWS_ENDPOINT_URL, AWS_REGION and credentials are in its environment, and\n"
        "HOME is an empty folder. For example, with pyssm-client, and with the AWS\n"
        "CLI and session-manager-plugin in PATH:\n"
    ) + "".join(f"  --beside '{example}'\n" for example in EXAMPLES)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what ``--beside`` and its company take."""
    group = parser.add_argument_group("another forwarder")
    group.add_argument(
        "--beside",
        metavar="COMMAND",
        type=_command,
        help="compare with what this runs, instead of the cases (below)",
    )
    group.add_argument("--name", help="its name in the table; else its program's")
    group.add_argument(
        "--ours",
        metavar="COMMAND",
        type=_command,
        default=OUR_COMMAND,
        help="how ours is started, such as with other options, or of another version",
    )
    group.add_argument(
        "--path",
        metavar="SPEC",
        type=_path,
        action="append",
        help="the emulator's --path; repeatable, a table each",
    )
    group.add_argument(
        "--pace", choices=["real", "none"], default="real", help="the emulator's --pace"
    )
    group.add_argument(
        "--seconds", type=float, default=4.0, help="how long a transfer is watched"
    )


def _command(text: str) -> list[str]:
    try:
        return split(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _path(text: str) -> str:
    try:
        PathSettings.parse(text)
    except ConfigError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return text


def compare(options: argparse.Namespace) -> dict[str, object]:
    """Measure and print a table for each path; return every value.

    What runs is killed, too, if SIGTERM asks to end.
    """
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    name = options.name or Path(options.beside[0]).name
    document: dict[str, object] = {}
    for path in options.path or [""]:
        conditions = Conditions(path, options.pace, options.runs, options.seconds)
        ours, other = Contender(OURS, options.ours), Contender(name, options.beside)
        floor = measure([ours, other], conditions)
        print(render(ours, other, floor, conditions), end="\n\n", flush=True)
        document[path] = {
            OURS: ours.figures,
            name: other.figures,
            RELAY: {"first byte": floor},
        }
    return document
