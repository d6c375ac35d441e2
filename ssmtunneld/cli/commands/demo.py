"""``ssmtunneld demo``."""

import click


@click.command()
@click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"]),
    default="warning",
    show_default=True,
    help="Minimum severity to log.",
)
def demo(log_level: str) -> None:
    """Try ssmtunneld without AWS: emulator, destinations and daemon.

    All run in one process, on free loopback ports. Prints the configuration and
    commands to try, and ends on Ctrl-C.
    """
    import asyncio

    from ssmtunneld.daemon.process import loop_factory
    from ssmtunneld.demo import run_demo
    from ssmtunneld.observe import logs

    logs.configure(log_level, "auto")
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(run_demo(click.echo))
