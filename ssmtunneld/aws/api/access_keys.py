"""The keys of an approved access request, and the place where a tunnel has them."""

from dataclasses import dataclass

from ssmtunneld.base.secret import Secret


@dataclass(frozen=True, slots=True)
class AccessKeys:
    """Keys of an approved request, which start sessions to its node."""

    access_key: str
    secret_key: Secret
    session_token: Secret
    expires_at: float
    """Unix seconds."""


class AccessKeyHolder:
    """The keys of one tunnel's approved request, for any thread.

    Args:
        advice: What to do once they have ended, as an imperative clause.
    """

    def __init__(self, advice: str) -> None:
        self.advice = advice
        self.keys: AccessKeys | None = None
        """The keys; None while there is no access."""
