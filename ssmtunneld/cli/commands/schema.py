"""``ssmtunneld schema``."""

import json

import click


@click.command()
@click.option(
    "--status", "of_status", is_flag=True, help="Schema of the status document instead."
)
def schema(*, of_status: bool) -> None:
    """Print the JSON Schema of the configuration, for editors.

    --status prints the schema of `ssmtunneld status --json` instead, for programs.
    """
    if of_status:
        from ssmtunneld.observe.status_schema import status_schema

        document = status_schema()
    else:
        from ssmtunneld.config import json_schema

        document = json_schema()
    click.echo(json.dumps(document, indent=2))
