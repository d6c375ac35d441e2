"""The metadata services of instances and containers, which no proxy leads to.

botocore asks for an instance's through ``HTTP_PROXY`` unless ``NO_PROXY`` names its
address, which few know: credentials would then be asked of a proxy, that of another
machine perhaps. It also waits without end for an answer that trickles.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from typing_extensions import override

from ssmtunneld.aws.api.http import Sender
from ssmtunneld.aws.botocore_internals import region_by, replace_metadata_senders
from ssmtunneld.base.redaction import register_answer

if TYPE_CHECKING:
    from botocore.awsrequest import AWSPreparedRequest, AWSResponse
    from botocore.session import Session


def region_of_instance(session: Session) -> str | None:
    """Return the region of the instance that this is, or None; blocks for a second."""
    return region_by(session, _direct)


def go_direct(session: Session) -> None:
    """Let ``session`` ask for the roles of instance and container without proxies."""
    replace_metadata_senders(session, _direct)


class _DirectSender(Sender):
    """Asks without a proxy; what it learns is a secret, wherever it stands."""

    @override
    def __call__(self, request: AWSPreparedRequest, **options: object) -> AWSResponse:
        """Return the answer; arguments and errors are the base's."""
        answer = super().__call__(request, **options)
        # Else it is the name of a role or a zone.
        if answer.content.lstrip()[:1] in {b"{", b"["}:
            register_answer(answer.content)
        return answer


def _direct(timeout: float) -> Sender:
    return _DirectSender(ca_bundle=None, proxy="", timeout=timeout)
