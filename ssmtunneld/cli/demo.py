"""``ssmtunneld demo``."""

import click


@click.command()
@click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"]),
    default="warning",
    show_default=True,
)
def demo(log_level: str) -> None:
    """Try it without AWS: emulator, destinations and daemon in one process.

    Everything listens on free loopback ports. It prints the configuration and what to
    type next, and ends on Ctrl-C.
    """
    import asyncio

    from ssmtunneld.demo import run_demo
    from ssmtunneld.ops import logs
    from ssmtunneld.process import loop_factory

    logs.configure(log_level, "auto")
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(run_demo(click.echo))
