"""mongosh."""

from __future__ import annotations

from ssmtunneld.cli.clients.launch import Launch, Task
from ssmtunneld.cli.clients.tls import level_for
from ssmtunneld.cli.database_uris import mongodb_parameters, write_uri


def prepare(task: Task) -> Launch:
    """Return how to run mongosh: by a URI with the user, whose password it asks for.

    Raises:
        CommandError: It cannot connect to the tunnel as the file says.
    """
    database = task.database
    level = level_for(database, "mongosh", checks_name=database.named)
    uri = write_uri("mongodb", database, mongodb_parameters(database, level))
    return Launch([task.program, uri, *task.arguments])
