"""``ssmtunneld kubeconfig``."""

from __future__ import annotations

import os
import shlex
from typing import TYPE_CHECKING

import click

from ssmtunneld.cli.asides import tell
from ssmtunneld.cli.destination import (
    Local,
    bracketed,
    local_end,
    remote_host,
    tunnel_named,
)
from ssmtunneld.cli.exit_codes import EXIT_USAGE, CommandError
from ssmtunneld.cli.options import (
    config_in_use_option,
    load_in_use,
    name_argument,
    one_line,
    refuse_alone,
)

if TYPE_CHECKING:
    from pathlib import Path

    from ssmtunneld.aws.clusters import Cluster
    from ssmtunneld.config import TunnelSettings


@click.command("kubeconfig")
@name_argument
@click.option(
    "--write",
    is_flag=True,
    help="Put the context into the first file of $KUBECONFIG, or ~/.kube/config.",
)
@click.option(
    "--context",
    metavar="CONTEXT",
    callback=one_line,
    help="Name of the context. By default NAME.",
)
@click.option(
    "--cluster-name",
    metavar="CLUSTER",
    help="EKS cluster behind the tunnel, where the tunnel has no cluster of its own.",
)
@click.option(
    "--profile",
    metavar="PROFILE",
    callback=one_line,
    help="AWS profile that kubectl gets its tokens with. By default the tunnel's "
    "profile and role.",
)
@click.option(
    "--force", is_flag=True, help="With --write, replace entries that others made."
)
@config_in_use_option
def kubeconfig(
    name: str,
    context: str | None,
    cluster_name: str | None,
    profile: str | None,
    config_path: Path | None,
    *,
    write: bool,
    force: bool,
) -> None:
    """Print or write a kubectl context for a cluster behind a tunnel.

    The context connects to the tunnel's local address and checks the certificate of the
    EKS cluster by its real name. Name and certificate authority come from AWS, and
    kubectl's tokens from `aws eks get-token`. With --write everything else in the file
    stays as it is, and so does the current context.

    \b
    ssmtunneld kubeconfig prod --write
    kubectl --context prod get nodes
    """  # noqa: D301 - a real backspace: click's mark for lines to be left alone
    refuse_alone("force", "--write", given=write)
    from ssmtunneld.cli import kubeconfig as file

    config = load_in_use(config_path)
    tunnel = tunnel_named(config, name)
    wanted = _cluster_of(tunnel, cluster_name)
    identity = _identity_of(tunnel, profile)
    cluster, region = _ask(tunnel, wanted)
    server, proxy = _way(tunnel, cluster, local_end(tunnel, config.source))
    access = file.ClusterAccess(
        context=context or name,
        tunnel=name,
        server=server,
        host=cluster.host,
        authority=cluster.authority,
        arguments=(
            *("--region", region, "eks", "get-token", "--cluster-name", wanted),
            *("--output", "json", *identity),
        ),
        proxy=proxy,
    )
    if not write:
        click.echo(file.render(access), nl=False)
        return
    path = file.place(os.environ)
    changed = file.write(path, access, force=force)
    click.echo(f"{path}: {'wrote' if changed else 'already has'} {access.context}")
    tell(f"try: kubectl --context {shlex.quote(access.context)} version")


def _cluster_of(tunnel: TunnelSettings, named: str | None) -> str:
    if tunnel.cluster is None and named is None:
        raise CommandError(
            f"{tunnel.name} has no cluster",
            "set cluster of the tunnel, or pass --cluster-name CLUSTER",
            code=EXIT_USAGE,
        )
    if tunnel.cluster is not None and named not in {None, tunnel.cluster}:
        raise CommandError(
            f"{tunnel.name} leads to cluster {tunnel.cluster}, not to {named}",
            "omit --cluster-name",
            code=EXIT_USAGE,
        )
    return tunnel.cluster or named or ""


def _identity_of(tunnel: TunnelSettings, profile: str | None) -> list[str]:
    """Return the options by which the AWS CLI is who the tunnel is."""
    if profile is not None:
        return ["--profile", profile]
    found = [] if tunnel.profile is None else ["--profile", tunnel.profile]
    if tunnel.role_arn is None:
        return found
    unsaid = [k for k in ("external_id", "mfa_serial") if getattr(tunnel, k)]
    if unsaid:
        raise CommandError(
            f"aws eks get-token assumes no role with {' and '.join(unsaid)}, which "
            f"{tunnel.name} has",
            "pass --profile, with a profile that assumes a role for the cluster",
            code=EXIT_USAGE,
        )
    return [*found, "--role-arn", tunnel.role_arn]


def _ask(tunnel: TunnelSettings, name: str) -> tuple[Cluster, str]:
    """Return what AWS says of the cluster, and its region."""
    from ssmtunneld.aws.api.port import Identity
    from ssmtunneld.aws.client import AwsClient
    from ssmtunneld.aws.clusters import describe_cluster

    account = AwsClient(Identity.of(tunnel))
    try:
        cluster = describe_cluster(account, name)
        place = account.place
    finally:
        account.close()
    assert place is not None, "an answer without a connection"
    if not cluster.authority:
        raise CommandError(
            f"EKS tells no certificate authority of cluster {name}",
            "see: aws eks describe-cluster",
        )
    return cluster, place.region


def _way(tunnel: TunnelSettings, cluster: Cluster, local: Local) -> tuple[str, str]:
    """Return the URL of the cluster for kubectl, and of a proxy to it or nothing."""
    if local.port is None:
        raise CommandError(
            f"{tunnel.name} listens on a Unix socket only, which kubectl cannot use",
            "add a TCP address to listen",
        )
    address = bracketed(local.address)
    if tunnel.mode == "tcp":
        host = remote_host(tunnel)
        if host is not None and host.rstrip(".").lower() != cluster.host:
            tell(
                f"ssmtunneld: {tunnel.name} leads to {host}, not to {cluster.host}, "
                f"the endpoint of {cluster.name}"
            )
        return f"https://{address}:{local.port}", ""
    from ssmtunneld.config.destinations import Destination

    end = Destination(cluster.host, cluster.port)
    if not any(pattern.allows(end) for pattern in tunnel.destinations):
        raise CommandError(
            f"{tunnel.name} does not allow {end}, the endpoint of {cluster.name}",
            f'add "{end}" to destinations',
        )
    scheme = "socks5" if tunnel.mode == "socks5" else "http"
    return f"https://{end}", f"{scheme}://{address}:{local.port}"
