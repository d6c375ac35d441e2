"""botocore's chain of providers, as a daemon needs it.

It never asks on a terminal, never waits for ever, and gives the roles that it assumes a
name that does not change.
"""

from __future__ import annotations

import getpass
import logging
import os
import re
import selectors
import subprocess
import threading
import time
from contextlib import suppress
from functools import cache, partial
from typing import IO, TYPE_CHECKING, Any, Final

import botocore.session
from botocore.config import Config
from botocore.exceptions import CredentialRetrievalError, RefreshWithMFAUnsupportedError
from botocore.handlers import BUILTIN_HANDLERS, REGISTER_FIRST, REGISTER_LAST
from botocore.loaders import create_loader
from typing_extensions import override

from ssmtunneld.aws.api.http import Sender
from ssmtunneld.aws.api.models import SERVICES, Models
from ssmtunneld.aws.api.network import Network, ca_bundle_of
from ssmtunneld.aws.botocore_internals import (
    parse_in_pieces,
    replace_environment,
    replace_processes,
    replace_role_loading,
)
from ssmtunneld.aws.identity.keys import tidy, tidy_environment
from ssmtunneld.aws.identity.metadata import go_direct, region_of_instance
from ssmtunneld.aws.identity.mfa_cache import MfaRole
from ssmtunneld.aws.identity.profiles import profile_chain
from ssmtunneld.base.on_error import on_error
from ssmtunneld.base.redaction import register_answer

if TYPE_CHECKING:
    from collections.abc import Callable

    from botocore.credentials import Credentials

PROCESS_TIMEOUT: Final = 60.0
"""Seconds for a ``credential_process``: some open a browser, none may hang for ever."""
PROCESS_OUTPUT_LIMIT: Final = 64 * 1024
"""Bytes of what a ``credential_process`` prints, and as many of its complaints: keys
have less than 4 KiB."""


_making = threading.Lock()


_CALLED: Final = SERVICES | {"sso", "sso-oidc", "*"}
"""Services as events of botocore name them; ``*`` is any."""


def _concerns_us(event: str) -> bool:
    """Return False for documentation, and for services that are not called."""
    kind, _, rest = event.partition(".")
    service = rest.partition(".")[0]
    return kind != "docs" and (not service or service in _CALLED)


class _Session(botocore.session.Session):
    """A session for our services, whose clients' keys can stand in a header.

    Args:
        profile: Its name; None for the one in the environment, or the default.
    """

    def __init__(self, profile: str | None) -> None:
        # botocore registers all that it has, for each session, in 4 ms.
        super().__init__(profile=profile, include_builtin_handlers=False)
        events = self.get_component("event_emitter")
        ways = {
            (): events.register,
            (REGISTER_FIRST,): events.register_first,
            (REGISTER_LAST,): events.register_last,
        }
        for event, handler, *order in BUILTIN_HANDLERS:
            if _concerns_us(event):
                ways[tuple(order)](event, handler)

    @override
    def create_client(self, *args: Any, **kwargs: Any) -> Any:
        """Return a client; keys that are given are those of a role's source."""
        names = ("aws_access_key_id", "aws_secret_access_key", "aws_session_token")
        if any(kwargs.get(name) for name in names):
            given = tidy(*(kwargs.get(name) for name in names), whose="a role's source")
            kwargs |= dict(zip(names, given, strict=True))
        return super().create_client(*args, **kwargs)


def new_session(
    profile: str | None, network: Network | None = None
) -> botocore.session.Session:
    """Return a botocore session that shares the service models with all others.

    They are most of a client: with models of its own each further identity takes
    12 MiB and 130 ms, with these 0.5 MiB and 35 ms.

    Args:
        profile: Its name; None for the one in the environment, or the default.
        network: The way to AWS; None where nobody is asked.

    Raises:
        BotoCoreError: There is no such profile, or the configuration is broken.
        SettingError: The certificates that are named are not there.
    """
    session = _Session(profile=profile)
    # Reads files, for which one thread may wait for ever; the others must not.
    data_path = session.get_config_variable("data_path")
    with _making:  # all threads get the same ones
        models = _models(data_path)
    session.register_component("data_loader", models)
    parse_in_pieces(session)
    if network is not None:
        ca_bundle = ca_bundle_of(session, network)
        # For botocore's own sender, which minds an empty variable. It never sends.
        session.set_config_variable("ca_bundle", ca_bundle or True)
        # botocore's types have no handlers that answer, although this event wants one.
        sender: Any = Sender(ca_bundle, network.proxy)
        session.register("before-send", sender)
    return session


@cache
def _models(data_path: str | None) -> Models:
    return Models(create_loader(data_path).search_paths)


def profiles_of(
    session: botocore.session.Session,
) -> tuple[dict[str, dict[str, object]], str]:
    """Return all profiles, and the name of the one in use.

    Raises:
        BotoCoreError: The configuration is broken.
    """
    profiles = session.full_config.setdefault("profiles", {})
    return profiles, session.get_config_variable("profile") or "default"


def provider_session(
    profile: str | None,
    region: str,
    network: Network | None = None,
    process_timeout: float = PROCESS_TIMEOUT,
) -> botocore.session.Session:
    """Return a session whose credentials nobody needs to be asked for.

    Of roles that need an MFA code it has the sessions that are stored.

    Args:
        profile: Its name; None for the one in the environment, or the default.
        region: Where STS is asked for roles.
        network: The way there.
        process_timeout: Seconds that a ``credential_process`` may take.

    Raises:
        BotoCoreError: There is no such profile, or the configuration is broken.
        SettingError: The certificates that are named are not there.
    """
    session = bounded_session(profile, region, network, process_timeout)
    profiles, _ = profiles_of(session)

    def load(name: str, assume: Callable[[str], Credentials]) -> Credentials:
        role = MfaRole.of(profiles.get(name, {}))
        return assume(name) if role is None else role.session()

    replace_role_loading(session, load, _refuse_to_prompt)
    return session


def bounded_session(
    profile: str | None,
    region: str,
    network: Network | None = None,
    process_timeout: float = PROCESS_TIMEOUT,
) -> botocore.session.Session:
    """Return a session whose providers give up soon; they may ask on a terminal.

    Arguments and errors are those of :func:`provider_session`.
    """
    session = new_session(profile, network or Network())
    session.set_config_variable("region", region)
    session.set_default_client_config(
        # botocore's defaults are 60 s, four times; a tunnel is waiting.
        Config(
            connect_timeout=5,
            read_timeout=20,
            retries={"total_max_attempts": 2, "mode": "standard"},
        )
    )
    profiles, name = profiles_of(session)
    _name_role_sessions(profiles, profile_chain(profiles, name))
    replace_processes(session, partial(_BoundedProcess, limit=process_timeout))
    replace_environment(session, tidy_environment(os.environ))
    go_direct(session)
    return session


def role_session_name() -> str:
    """Return the name that CloudTrail and session ids show for assumed roles."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user need not have a name
        return "ssmtunneld"
    return f"ssmtunneld-{re.sub(r'[^A-Za-z0-9_+=,.@-]', '-', user)}"[:64]


def _name_role_sessions(
    profiles: dict[str, dict[str, object]], chain: list[str]
) -> None:
    """Give roles that are assumed for ``chain`` a session name that does not change.

    Policies let callers resume and end only the sessions that carry their own name
    (protocol 1.4), and botocore would invent one at each new start of its providers.
    """
    if "AWS_WEB_IDENTITY_TOKEN_FILE" in os.environ:
        profiles.setdefault(chain[0], {})
    for settings in (profiles[link] for link in chain if link in profiles):
        # Where a session is stored, its name is part of the file's, if it is chosen.
        if MfaRole.of(settings) is None:
            settings.setdefault("role_session_name", role_session_name())


class _BoundedProcess(subprocess.Popen[bytes]):
    """A ``credential_process``, killed if it takes too long or says too much."""

    def __init__(self, command: list[str], *, limit: float, **options: Any) -> None:
        super().__init__(command, stdin=subprocess.DEVNULL, **options)
        self._limit = limit

    @override
    def communicate(
        self, input: bytes | None = None, timeout: float | None = None
    ) -> tuple[bytes, bytes]:
        with on_error(self._end):
            with suppress(subprocess.TimeoutExpired):
                return self._read(timeout or self._limit)
            raise CredentialRetrievalError(
                provider="credential_process",
                error_msg=f"it took longer than {self._limit:g} s",
            )

    def _read(self, seconds: float) -> tuple[bytes, bytes]:
        # A thread has no event loop whose clock it could read.
        ends_at = time.monotonic() + seconds  # noqa: TID251 - see above
        assert self.stdout is not None, "botocore asks for pipes"
        assert self.stderr is not None, "botocore asks for pipes"
        printed: dict[IO[bytes], bytes] = {self.stdout: b"", self.stderr: b""}
        with selectors.DefaultSelector() as selector:
            for pipe in printed:
                selector.register(pipe, selectors.EVENT_READ)
            while selector.get_map():
                left = ends_at - time.monotonic()  # noqa: TID251 - see above
                if left <= 0:
                    raise subprocess.TimeoutExpired(self.args, seconds)
                ready = {key.fd for key, _ in selector.select(left)}
                for pipe in [p for p in printed if p.fileno() in ready]:
                    if not self._append(printed, pipe):
                        selector.unregister(pipe)
        self.wait(max(0.0, ends_at - time.monotonic()))  # noqa: TID251 - see above
        for pipe in printed:
            pipe.close()
        register_answer(printed[self.stdout])
        return printed[self.stdout], printed[self.stderr]

    def _append(self, printed: dict[IO[bytes], bytes], pipe: IO[bytes]) -> bool:
        """Read some of a pipe; return whether more can follow."""
        some = os.read(pipe.fileno(), PROCESS_OUTPUT_LIMIT)
        printed[pipe] += some
        if len(printed[pipe]) > PROCESS_OUTPUT_LIMIT:
            raise CredentialRetrievalError(
                provider="credential_process",
                error_msg=f"it printed more than {PROCESS_OUTPUT_LIMIT} bytes",
            )
        return bool(some)

    def _end(self) -> None:
        self.kill()
        with self:  # closes its pipes, which a child of it may hold open for ever
            pass


def _refuse_to_prompt(_prompt: str) -> str:
    raise RefreshWithMFAUnsupportedError


def quiet_botocore() -> None:
    """Keep botocore's loggers from printing secrets, or what we log ourselves."""
    levels = {
        "boto3": logging.INFO,
        "botocore": logging.INFO,
        "urllib3": logging.INFO,
        # A failed refresh is a warning with a traceback there, at each attempt. It is
        # also raised, so our own line says it, with what to do.
        "botocore.credentials": logging.ERROR,
        "botocore.tokens": logging.ERROR,
    }
    for name, level in levels.items():
        logger = logging.getLogger(name)
        if logger.level == logging.NOTSET:
            logger.setLevel(level)


def default_region(session: botocore.session.Session) -> str | None:
    """Return the region of environment, profile or instance; None if none is known."""
    # In the order that users know from other SDKs; botocore itself knows neither
    # AWS_REGION nor the instance's region (users.md 3.7).
    region: str | None = (
        os.environ.get("AWS_REGION")
        or session.get_config_variable("region")
        or region_of_instance(session)
    )
    # As with keys: an environment file with CRLF leaves a line end behind.
    return region.rstrip("\r\n") if isinstance(region, str) else None
