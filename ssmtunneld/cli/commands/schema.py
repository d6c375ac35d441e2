"""``ssmtunneld schema``."""

import json
from typing import Any

import click


@click.command()
@click.option(
    "--status",
    "of",
    flag_value="status",
    help="Schema of the status document instead.",
)
@click.option(
    "--connections",
    "of",
    flag_value="connections",
    help="Schema of the document of connections instead.",
)
@click.option(
    "--audit", "of", flag_value="audit", help="Schema of a line of audit_log instead."
)
def schema(*, of: str | None) -> None:
    """Print the JSON Schema of the configuration, for editors.

    --status and --connections print those of `ssmtunneld status --json` and
    `ssmtunneld connections --json` instead, --audit that of a line of `audit_log`, for
    programs.
    """
    click.echo(json.dumps(_schema(of), indent=2))


def _schema(of: str | None) -> dict[str, Any]:
    if of is None:
        from ssmtunneld.config import json_schema

        return json_schema()
    from ssmtunneld.observe import status_schema

    make = {
        "status": status_schema.status_schema,
        "connections": status_schema.connections_schema,
        "audit": status_schema.audit_schema,
    }
    return make[of]()
