"""Tokens that stand for a password where RDS and Aurora check IAM (rds-db:connect).

The token is a signature over the destination's own name and port, whatever the address
that a client connects to. Making one asks nobody, unless credentials must be refreshed.
Everything here blocks and must be called where no loop runs, or in a thread.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from botocore.awsrequest import prepare_request_dict
from botocore.credentials import Credentials
from botocore.hooks import HierarchicalEmitter
from botocore.model import ServiceId
from botocore.signers import RequestSigner

from ssmtunneld.aws.client import AwsClient
from ssmtunneld.base.foreign import clean
from ssmtunneld.base.secret import Secret
from ssmtunneld.errors import CredentialsUnusable

if TYPE_CHECKING:
    from ssmtunneld.aws.api.port import Identity

LIFETIME: Final = 900
"""Seconds for which the database accepts a token."""

_OPERATION: Final = "SignDatabaseToken"
_SCHEME: Final = "https://"
_RDS_NAME: Final = re.compile(
    r"[a-z0-9.-]+\.(?P<region>[a-z]{2,6}(?:-[a-z]+)+-[0-9]{1,2})\.rds\.[a-z0-9.-]+",
    re.IGNORECASE,
)


def region_of(host: str) -> str | None:
    """Return the region in an RDS or Aurora endpoint's name; None in any other."""
    match = _RDS_NAME.fullmatch(host.rstrip("."))
    return match["region"].lower() if match else None


def sign_database_token(identity: Identity, host: str, port: int, user: str) -> Secret:
    """Return what ``user`` gives as a password to the database at ``host:port``.

    It is signed for the region in the host's name, or else the identity's.

    Args:
        identity: Who signs; needs ``rds-db:connect`` for the user.
        host: The destination's own name, not a local address.
        port: The destination's own port.
        user: The database's user.

    Raises:
        AwsError: There are no credentials or no region, or they cannot be refreshed.
    """
    known = region_of(host)
    account = AwsClient(replace(identity, region=known) if known else identity)
    try:
        keys, place = account.keys(_OPERATION)
    finally:
        account.close()
    if keys is None:
        raise CredentialsUnusable(
            _OPERATION,
            clean("NoCredentials"),
            clean("there are no AWS credentials"),
            "log in, set AWS_PROFILE, or name a profile in the configuration",
        )
    token = None if keys.session_token is None else keys.session_token.reveal()
    credentials = Credentials(keys.access_key, keys.secret_key.reveal(), token)
    url = f"{_SCHEME}{host}:{port}"
    return Secret.derived(_presign(credentials, place.region, url, user))


def _presign(credentials: Credentials, region: str, url: str, user: str) -> str:
    events = HierarchicalEmitter()  # which the signer only refers to
    signer = RequestSigner(ServiceId("RDS"), region, "rds", "v4", credentials, events)
    # As botocore's generate_db_auth_token does, which would need the whole model of
    # RDS: 0.3 s and 20 MiB for one signature.
    request: dict[str, object] = {
        "url_path": "/",
        "query_string": "",
        "headers": {},
        "body": {"Action": "connect", "DBUser": user},
        "method": "GET",
    }
    prepare_request_dict(request, url)
    signed = signer.generate_presigned_url(
        operation_name="connect",
        request_dict=request,
        expires_in=LIFETIME,
        signing_name="rds-db",
    )
    return str(signed).removeprefix(_SCHEME)
