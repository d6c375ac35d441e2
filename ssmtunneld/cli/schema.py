"""``ssmtunneld schema``."""

import json

import click


@click.command()
def schema() -> None:
    """Print the JSON Schema of the configuration file, for editors."""
    from ssmtunneld.config import json_schema

    click.echo(json.dumps(json_schema(), indent=2))
