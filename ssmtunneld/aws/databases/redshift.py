"""Users and passwords for Redshift, which has no signed tokens: the service makes both.

Everything here blocks and must be called where no loop runs, or in a thread.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from ssmtunneld.aws.api.answers import PASSWORD
from ssmtunneld.aws.client import AwsClient
from ssmtunneld.base.foreign import clean
from ssmtunneld.base.secret import Secret
from ssmtunneld.errors import RequestRejected

if TYPE_CHECKING:
    from ssmtunneld.aws.api.answers import Answer
    from ssmtunneld.aws.api.port import Identity

LIFETIME: Final = 900
"""Seconds for which a password is good to log in with: the shortest there is."""

_REGION: Final = r"(?P<region>[a-z]{2,6}(?:-[a-z]+)+-[0-9]{1,2})"
_SUFFIX: Final = r"\.amazonaws\.com(?:\.cn)?"
_CLUSTER: Final = re.compile(
    rf"(?P<name>[a-z][a-z0-9-]*)\.[a-z0-9]+\.{_REGION}\.redshift{_SUFFIX}"
)
_WORKGROUP: Final = re.compile(
    rf"(?P<name>[a-z0-9][a-z0-9-]*)\.[0-9]{{12}}\.{_REGION}\.redshift-serverless{_SUFFIX}"
)


@dataclass(frozen=True, slots=True)
class Warehouse:
    """The parts of a Redshift host name."""

    name: str
    """The cluster's, or the workgroup's."""
    region: str
    serverless: bool


@dataclass(frozen=True, slots=True)
class DatabaseCredentials:
    """A user of a database for a while."""

    user: str
    """As the database knows it: ``IAM:app``, ``IAMR:Developer``."""
    password: Secret


def warehouse_of(host: str) -> Warehouse | None:
    """Return what ``host`` is the endpoint of; None if not of a Redshift."""
    host = host.rstrip(".").lower()
    for pattern in (_CLUSTER, _WORKGROUP):
        if match := pattern.fullmatch(host):
            return Warehouse(match["name"], match["region"], pattern is _WORKGROUP)
    return None


def get_login(
    identity: Identity, warehouse: Warehouse, user: str | None, database: str | None
) -> DatabaseCredentials:
    """Ask AWS for a user and a password at ``warehouse``.

    Args:
        identity: Who asks. Its own user in the database is what it gets, unless another
            one is named.
        warehouse: Where.
        user: A user of the cluster; None where it is serverless, which has no choice.
        database: What the password is good for; None for every database, and for the
            usual one where it is serverless.

    Raises:
        AwsError: AWS refuses, or does not answer.
    """
    account = AwsClient(replace(identity, region=warehouse.region))
    try:
        if warehouse.serverless:
            return _ask_workgroup(account, warehouse.name, database)
        return _ask_cluster(account, warehouse.name, user, database)
    finally:
        account.close()


def _ask_workgroup(
    account: AwsClient, name: str, database: str | None
) -> DatabaseCredentials:
    chosen = {} if database is None else {"dbName": database}
    answer = account.call_service(
        "redshift-serverless",
        "GetCredentials",
        workgroupName=name,
        durationSeconds=LIFETIME,
        **chosen,
    )
    return _login(answer, "db")


def _ask_cluster(
    account: AwsClient, name: str, user: str | None, database: str | None
) -> DatabaseCredentials:
    chosen: dict[str, object] = {} if database is None else {"DbName": database}
    chosen |= {"ClusterIdentifier": name, "DurationSeconds": LIFETIME}
    if user is None:
        answer = account.call_service(
            "redshift", "GetClusterCredentialsWithIAM", **chosen
        )
    else:
        answer = account.call_service(
            "redshift", "GetClusterCredentials", DbUser=user, **chosen
        )
    return _login(answer, "Db")


def _login(answer: Answer, prefix: str) -> DatabaseCredentials:
    user = answer.matching(f"{prefix}User", PASSWORD)
    password = answer.matching(f"{prefix}Password", PASSWORD)
    if not (user and password):
        message = clean("the answer has no user, or no password")
        raise RequestRejected("GetCredentials", clean("NoPassword"), message)
    return DatabaseCredentials(user, Secret(password))
