"""ssmtunneld: warm port-forwarding tunnels through AWS Session Manager.

From Python, :func:`open_tunnel` keeps a tunnel open for the life of a ``with`` block.
Everything else is the daemon's own, and can change between minor versions.
"""

from typing import TYPE_CHECKING, Any

from ssmtunneld.version import __version__

if TYPE_CHECKING:
    from ssmtunneld.api import LocalTunnel, open_tunnel

__all__ = ["LocalTunnel", "__version__", "open_tunnel"]


def __getattr__(name: str) -> Any:  # noqa: ANN401 - the module protocol's signature
    # Importing the API takes half a second (pydantic, aiohttp); --help must not wait.
    if name in {"LocalTunnel", "open_tunnel"}:
        from ssmtunneld import api  # noqa: PLC0415 - see above

        return getattr(api, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
