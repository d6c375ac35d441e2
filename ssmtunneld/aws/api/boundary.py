"""The boundary between AWS and everybody else (design D18).

Every call of AWS's APIs, every look for credentials and all reading of answers go
through :func:`contained`. botocore and what it stands on raise whatever an odd answer
makes them trip over; from here on there are only errors that say what follows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeVar

from ssmtunneld.aws.api.endpoints import SettingError
from ssmtunneld.base.compartment import NOWHERE, Defect, note_here
from ssmtunneld.base.foreign import CleanText, clean
from ssmtunneld.base.log import get_log
from ssmtunneld.errors import ServiceUnavailable, SsmtunneldError

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

FIND_OUT: Final = (
    "find out what answers there: a portal of this network that wants a login, a "
    "proxy, or a wrong endpoint_url"
)
"""Advice for an answer that is not from AWS."""
NOT_AWS: Final = "the answer is not from AWS"
"""The message for such an answer."""


def contained(work: Callable[[], T], explain: Callable[[Exception], Exception]) -> T:
    """Return what ``work`` returns; whatever it raises is one of our errors.

    Args:
        work: Makes a call, or reads an answer.
        explain: Returns what is raised instead of an exception that is not ours.

    Raises:
        SsmtunneldError: ``work`` did, or ``explain`` returned it.
    """
    try:
        return work()
    except SsmtunneldError:
        raise
    except Exception as error:  # noqa: BLE001 - the boundary of AWS's compartment
        refusal = explain(error)
    # Raised above it would carry the other exception as its context, and that one the
    # signed request.
    raise refusal


def note_defect(error: Exception) -> None:
    """Log the place of a defect of ours; an error raised elsewhere is only an answer.

    Nothing of the exception's text is told: it can quote anything. What a setting or
    the operating system is to blame for is not a defect. It counts as one of the tunnel
    that the call was made for.
    """
    defect = Defect.of(error)
    is_ours = defect.place == defect.origin != NOWHERE
    if not is_ours or isinstance(error, SettingError | OSError):
        return
    note_here("aws", error, get_log())


def unusable(operation: str, error: Exception) -> ServiceUnavailable:
    """Return what it means that reading an answer has raised ``error``.

    Args:
        operation: What was being done, for the message.
        error: What was raised.
    """
    note_defect(error)
    message = clean(f"{NOT_AWS} ({words_of(error)})")
    return ServiceUnavailable(operation, clean("UnusableAnswer"), message, FIND_OUT)


def words_of(error: Exception) -> CleanText:
    """Return what an exception means, without quoting a value.

    Only the operating system's words, which name files at most, and our own are told.
    """
    if isinstance(error, SettingError):
        return clean(str(error))
    if isinstance(error, OSError) and error.strerror:
        named = f": {error.filename}" if isinstance(error.filename, str) else ""
        return clean(f"{error.strerror}{named}")
    return clean(f"{type(error).__name__} while it was read")
