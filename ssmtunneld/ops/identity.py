"""What there is to say about a login: a part of the status document."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class IdentityStatus:
    """Who mappings are towards AWS, and how long that lasts."""

    name: str
    """Profile and role, such as prod/Bastion; not unique."""
    mappings: tuple[str, ...]
    """The names of the mappings that act as it."""
    expires_at: float | None
    """When its keys end, in Unix seconds, if that is known; most renew themselves."""
    login_ends_at: float | None
    """When a human must log in again, in Unix seconds, if that is known."""
    advice: str
    """What to do then; empty if that is not known."""
    renewed: int
    """Times that other keys than before were got, the first ones included."""
    failed: int
    """Attempts to get keys that failed."""
