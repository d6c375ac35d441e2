"""Translation of botocore's exceptions to what a tunnel does next (protocol 1.7).

Nothing of botocore's leaves this package: its exceptions carry whole requests, with
their signatures and session tokens, and their texts can quote them.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from botocore.exceptions import BotoCoreError, ClientError

from ssmtunneld.aws.api.boundary import note_defect, words_of
from ssmtunneld.aws.api.causes import (
    CODES,
    EXCEPTIONS,
    Cause,
    cause_of_code,
    cause_of_exception,
)
from ssmtunneld.aws.api.endpoints import is_opt_in
from ssmtunneld.aws.api.permissions import DOCUMENTS, advise
from ssmtunneld.base.foreign import MESSAGE_LIMIT, CleanText, clean, without_page
from ssmtunneld.base.record import Record
from ssmtunneld.base.redaction import redact
from ssmtunneld.errors import (
    AccessDenied,
    AwsError,
    CredentialsUnusable,
    ServiceUnavailable,
    SessionGone,
    Throttled,
    TunnelError,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ssmtunneld.base.secret import Secret
    from ssmtunneld.base.service_unit import ServiceUnit

_CODE_LIMIT: Final = 64
"""Characters of a service's code that are kept; the longest has half of that."""
_STUDIED_LIMIT: Final = 2000
"""Characters of a message in which a policy's action and resource are looked for."""
_POLICY_LIMIT: Final = 800
"""Characters of advice about a policy, which names two resources at most."""


class CallContext(Record):
    """The circumstances of a call, from which advice is made."""

    operation: str
    """``StartSession``, ..."""
    region: str
    """Empty if none could be found."""
    renewal: str
    """The step by which a human renews these credentials."""
    service: str = "ssm"
    """As IAM's actions begin."""
    profile: str = ""
    target: str = ""
    document: str = ""
    session_id: str = ""
    by_request: bool = False
    """True if the keys are those of an approved access request."""
    unit: ServiceUnit | None = None
    """The unit of systemd that makes the call, which sees no shell's variables."""
    secrets: tuple[Secret, ...] = ()
    """Secrets that no message contains."""


def translate(error: Exception, during: CallContext) -> TunnelError:
    """Return what ``error`` means to a tunnel; raise it outside the except block.

    Raised inside, it would carry botocore's exception as its context, and that one
    carries the signed request. Never raises.
    """
    if isinstance(error, ClientError):
        return _translate_answer(error, during)
    names = [base.__name__ for base in type(error).__mro__]
    if isinstance(error, BotoCoreError):
        message = _presentable(str(error), during.secrets)
    elif "ResponseParserError" in names:
        message = CleanText("")  # it quotes the answer: STS answers with keys
    else:
        note_defect(error)
        message = words_of(error)
    cause = cause_of_exception(names, message)
    cure = _fill(cause, "", during)
    code = clean(cause.code or names[0])
    return _made(cause, during.operation, code, message, cure)


def _translate_answer(error: ClientError, during: CallContext) -> TunnelError:
    answer = _tunnel(error.response)
    details, metadata = _tunnel(answer.get("Error")), answer.get("ResponseMetadata")
    code = _text(details.get("Code"), "Unknown", _CODE_LIMIT)
    said = details.get("Message")
    words = said if isinstance(said, str) and said else "no reason given"
    message = _presentable(words, during.secrets)
    status = _tunnel(metadata).get("HTTPStatusCode")
    cause = cause_of_code(code, message, status if isinstance(status, int) else 0)
    operation = error.operation_name
    if operation != during.operation:
        return _translate_providers(operation, code, message, cause, during)
    if code == "DoesNotExistException" and during.session_id:
        return SessionGone(during.session_id, message)
    cure = _fill(cause, words, during)
    return _made(cause, operation, code, message, cure)


def _translate_providers(
    operation: str,
    code: CleanText,
    message: CleanText,
    cause: Cause,
    during: CallContext,
) -> TunnelError:
    """Return what it means that botocore could not get credentials.

    The call was one to STS, or to IAM Identity Center. Whatever it was denied, it is
    the credentials that are missing.
    """
    if issubclass(cause.kind, Throttled | ServiceUnavailable):
        cure = _fill(cause, message, replace(during, operation=operation))
        return _made(cause, operation, code, message, cure)
    advice = during.renewal
    if "not authorized to perform: sts:AssumeRole" in message:
        advice = advise(
            message, service="sts", operation=operation, region=during.region
        )
    return CredentialsUnusable(operation, code, _told(cause, message), advice)


def _made(
    cause: Cause, operation: str, code: CleanText, message: CleanText, cure: str
) -> AwsError:
    error = cause.kind(operation, code, _told(cause, message), cure)
    if cause.lasts:
        error.passes = False
    return error


def _told(cause: Cause, message: CleanText) -> CleanText:
    """Return what is said of a cause: our words where the service's do not say it."""
    if not cause.cause:
        return message
    return clean(f"{cause.cause} ({message})" if message else cause.cause)


def cure_of(name: str, during: CallContext) -> str:
    """Return the table's cure for a code or an exception that nobody has raised.

    Args:
        name: A row of ``causes.py``.
        during: What was being done.
    """
    return _fill((CODES.get(name) or EXCEPTIONS[name])[0], "", during)


def _fill(cause: Cause, words: str, during: CallContext) -> str:
    """Return a cause's cure, with names instead of its placeholders."""
    region = during.region
    facts = {
        "operation": during.operation,
        "renewal": during.renewal,
        "profile": during.profile or "default",
        # For a command that is pasted into a shell.
        "quoted_profile": shlex.quote(during.profile or "default"),
        "region": region or "the region",
        "document": during.document,
        "and_region": f" and that region {region} exists" if region else "",
        "opt_in": "",
        "elsewhere": "start ssmtunneld where there are credentials",
        "policy": "",
        "reachable": _reachable(during),
        "room": _ROOM.get(
            during.operation, "end unused sessions (ssmtunneld sessions)"
        ),
    }
    if during.unit is not None:
        file, restart = during.unit.environment, during.unit.restart
        facts["elsewhere"] = f"write keys to {file} and run: {restart}"
    if is_opt_in(region):
        facts["opt_in"] = f", or enable region {region} for this account if it is off"
    if cause.kind is AccessDenied and during.by_request:
        facts["policy"] = _TOKENS_POLICY
    elif cause.kind is AccessDenied:
        policy = advise(
            _presentable(words, during.secrets, _STUDIED_LIMIT),
            service=during.service,
            operation=during.operation,
            region=region,
            target=during.target,
            document=during.document,
        )
        facts["policy"] = clean(policy, _POLICY_LIMIT)
    return cause.cure.format_map(facts)


_ROOM: Final = {"StartAccessRequest": "wait until open access requests have ended"}
"""The way to make room where a quota is reached, by operation."""
_TOKENS_POLICY: Final = (
    "see what the access tokens of this account allow (role "
    "SSM-JustInTimeAccessTokenRole): AWS's own policies for them name documents for "
    f"shells, and none for port forwarding (see {DOCUMENTS}/tasks/access.md)"
)
"""Advice for a call that the keys of an access request do not allow: nobody here can
change that policy by a statement about the caller."""


def _reachable(during: CallContext) -> str:
    """Return what to check of a target that has no agent."""
    whose = f" and the account of profile {during.profile}" if during.profile else ""
    where = f"{during.region}{whose}"
    if during.target.startswith("ecs:"):
        return (
            f"check that the task runs in {where}, was started with "
            "enableExecuteCommand, and has a task role that allows ssmmessages"
        )
    return (
        f"check that {during.target or 'the target'} is right (ssmtunneld targets "
        f"--all) and runs, that its SSM agent is online in {where}, and that its role "
        "has the policy AmazonSSMManagedInstanceCore"
    )


def _tunnel(value: object) -> Mapping[str, object]:
    return value if isinstance(value, dict) else {}


def _text(value: object, otherwise: str, limit: int) -> CleanText:
    return clean(value if isinstance(value, str) and value else otherwise, limit)


def _presentable(
    message: str, secrets: tuple[Secret, ...], limit: int = MESSAGE_LIMIT
) -> CleanText:
    """Return ``message`` on one line and without anything that must not be shown."""
    message = without_page(message)
    for value in (secret.reveal() for secret in secrets):
        # Real ones have 40 characters and more; an emulator's "test" is a word.
        if len(value) >= 16:
            message = message.replace(value, "***")
    message = redact(message)  # other spellings too, and pieces
    # A refused signature is explained by the whole signed request, token included.
    message = message.partition("The Canonical String for this request")[0]
    message = re.sub(r"(?<=://)[^/@\s]*@", "***@", message)  # a proxy's password
    message = re.sub(r"Signature=[0-9a-fA-F]{64}", "Signature=***", message)
    return clean(message, limit)
