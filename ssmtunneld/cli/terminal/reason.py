"""The reason for an access request: checked, or asked for on the terminal."""

from typing import Final

import click

from ssmtunneld.base.foreign import clean

_LONGEST_LINE: Final = 1024
"""Characters that are looked at; a reason has a quarter of them at most."""


def check_reason(text: str) -> str:
    """Return a reason as AWS takes it: one line of 1 to 256 characters.

    Raises:
        click.BadParameter: It is empty, or too long.
    """
    # pydantic takes longer to import than the manual pages to make.
    from ssmtunneld.config.fields import REASON_LIMIT

    reason = clean(text, _LONGEST_LINE)
    if not reason:
        raise click.BadParameter("the reason is empty")
    if len(reason) > REASON_LIMIT:
        raise click.BadParameter(
            f"the reason has {len(reason)} characters, and AWS takes {REASON_LIMIT}"
        )
    return reason


def ask_reason(target: str) -> str | None:
    """Ask on the terminal why somebody needs ``target``; None without a terminal.

    Standard input and output are left alone: ssh has its own use for them.

    Raises:
        click.BadParameter: The answer is not a valid reason.
    """
    try:
        with open("/dev/tty", "r+b", buffering=0) as terminal:  # noqa: PTH123 - a device, no file
            terminal.write(f"Reason for access to {clean(target)}: ".encode())
            answer = terminal.readline(_LONGEST_LINE)
    except OSError:
        return None
    return check_reason(answer.decode(errors="replace"))
