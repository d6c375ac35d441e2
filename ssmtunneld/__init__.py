"""ssmtunneld: warm port-forwarding tunnels through AWS Session Manager.

From Python, :func:`open_tunnel` keeps a tunnel open for the life of a ``with`` or
``async with`` block; the errors here say why there is none. Everything else is the
daemon's own, and can change between minor versions.
"""

from typing import TYPE_CHECKING, Any

from ssmtunneld.version import __version__

if TYPE_CHECKING:
    from ssmtunneld.api import LocalTunnel, TunnelBlock, open_tunnel
    from ssmtunneld.errors import (
        AccessDenied,
        AddressInUse,
        AwsError,
        CredentialsUnusable,
        LinkError,
        NoSessionReady,
        RequestRejected,
        ServiceUnavailable,
        SessionError,
        SsmtunneldError,
        TargetNotConnected,
        TargetNotFound,
        Throttled,
        TunnelError,
    )

__all__ = [
    "AccessDenied",
    "AddressInUse",
    "AwsError",
    "CredentialsUnusable",
    "LinkError",
    "LocalTunnel",
    "NoSessionReady",
    "RequestRejected",
    "ServiceUnavailable",
    "SessionError",
    "SsmtunneldError",
    "TargetNotConnected",
    "TargetNotFound",
    "Throttled",
    "TunnelBlock",
    "TunnelError",
    "__version__",
    "open_tunnel",
]


def __getattr__(name: str) -> Any:  # noqa: ANN401 - the module protocol's signature
    # Importing the API takes half a second (pydantic, aiohttp); --help must not wait.
    # Nor do the errors belong to every start.
    if name in {"LocalTunnel", "TunnelBlock", "open_tunnel"}:
        from ssmtunneld import api  # noqa: PLC0415 - see above

        return getattr(api, name)
    if name in __all__:
        from ssmtunneld import errors  # noqa: PLC0415 - see above

        return getattr(errors, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
