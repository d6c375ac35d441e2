"""``ssmtunneld completion``."""

import click

from ssmtunneld.cli.main import COMPLETE_VARIABLE, PROGRAM, cli

_SHELLS = ["bash", "zsh", "fish"]


@click.command()
@click.argument("shell", type=click.Choice(_SHELLS))
def completion(shell: str) -> None:
    """Print a shell completion script.

    It completes commands, options and the tunnels of the running daemon.

    \b
    bash  echo 'source <(ssmtunneld completion bash)' >> ~/.bashrc
    zsh   echo 'source <(ssmtunneld completion zsh)' >> ~/.zshrc
    fish  mkdir -p ~/.config/fish/completions
          ssmtunneld completion fish > ~/.config/fish/completions/ssmtunneld.fish

    It takes effect in the next shell. bash must be 4.4 or newer; zsh needs compinit
    before that line.
    """  # noqa: D301 - a real backspace: click's mark for lines to be left alone
    from click.shell_completion import get_completion_class

    generator = get_completion_class(shell)
    assert generator is not None
    click.echo(generator(cli, {}, PROGRAM, COMPLETE_VARIABLE).source())
