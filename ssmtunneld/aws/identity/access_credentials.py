"""The keys of an approved access request as the credentials of a client.

Like everything in this folder, for worker threads.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from botocore.credentials import Credentials
from botocore.exceptions import BotoCoreError
from typing_extensions import override

from ssmtunneld.aws.identity.credentials import CredentialSource

if TYPE_CHECKING:
    from ssmtunneld.aws.api.access_keys import AccessKeyHolder


class AccessEnded(BotoCoreError):
    """There are no keys: the access was not approved, or has ended."""

    fmt = "there is no approved access to the node"


class AccessCredentials(CredentialSource):
    """Credentials that are the keys of a holder, whatever it has at the moment.

    Args:
        holder: Has the keys.
    """

    def __init__(self, holder: AccessKeyHolder) -> None:
        super().__init__(None, "")
        self._holder = holder

    @override
    def renewal(self) -> str:
        return self._holder.advice

    @override
    def _whose(self) -> str:
        return "the access request"

    @override
    def _load(self) -> Credentials:
        # Nothing is kept: whoever has new keys tells the holder.
        keys = self._holder.keys
        if keys is None:
            raise AccessEnded
        return Credentials(
            keys.access_key, keys.secret_key.reveal(), keys.session_token.reveal()
        )
