"""One identity's botocore client, and the last place where botocore is seen.

Everything in this module blocks and must be called in worker threads; all of it is
thread-safe. botocore prints whole answers, with their tokens, at debug level, and
whole requests, with their signatures: its loggers are kept at INFO here unless the
program set their level itself, and no code of ours may set it below that.
"""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Final, TypeVar
from urllib.parse import urlsplit

from botocore import xform_name
from botocore.config import Config
from botocore.exceptions import NoRegionError

from ssmtunneld.aws.api.answers import Answer
from ssmtunneld.aws.api.boundary import contained
from ssmtunneld.aws.api.causes import CREDENTIAL_CODES
from ssmtunneld.aws.api.endpoints import (
    SettingError,
    check_endpoint,
    is_loopback_host,
    parse_override,
)
from ssmtunneld.aws.api.errors import CallContext, translate
from ssmtunneld.aws.identity.access_credentials import AccessCredentials
from ssmtunneld.aws.identity.credentials import (
    AssumedRole,
    CredentialSource,
    Keys,
    Refreshes,
)
from ssmtunneld.aws.identity.login import CredentialExpiry
from ssmtunneld.aws.identity.provider_chain import (
    default_region,
    new_session,
    quiet_botocore,
)
from ssmtunneld.base.record import Record
from ssmtunneld.base.service_unit import own_service_unit
from ssmtunneld.errors import CredentialsUnusable, TunnelError
from ssmtunneld.version import __version__

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from botocore.client import BaseClient
    from botocore.credentials import ReadOnlyCredentials
    from botocore.session import Session

    from ssmtunneld.aws.api.access_keys import AccessKeyHolder
    from ssmtunneld.aws.api.port import Identity

T = TypeVar("T")

_EMULATED: Final = {
    "autoscaling": "auto_scaling",
    "ec2": "ec2",
    "ec2-instance-connect": "ec2_instance_connect",
    "ecs": "ecs",
}
"""Services without which a target is not found or reached, with their names in settings
of endpoints. They are asked where SSM is if that is on this machine. An emulator that
does not play one of them says so."""


class AwsLocation(Record):
    """Region and endpoints of an identity's sessions."""

    region: str
    ssm_endpoint: str
    ssmmessages_endpoint: str | None
    ca_bundle: str | None = None
    """The certificates that API and data channel trust; None is the usual ones."""


class _Connection:
    """A session of botocore's, and its clients: one for each service, when needed."""

    def __init__(
        self,
        identity: Identity,
        session: Session,
        region: str,
        holder: AccessKeyHolder | None,
    ) -> None:
        self.profile = _profile_name(identity)
        self.by_request = holder is not None
        self.credentials = (
            CredentialSource(
                identity.profile,
                region,
                _role(identity),
                identity.network,
                login=identity.login_command,
            )
            if holder is None
            else AccessCredentials(holder)
        )
        self._identity = identity
        self._session = session
        self._region = region
        self._lock = threading.Lock()
        session.register_component("credential_provider", self.credentials)
        override = identity.ssmmessages_endpoint or _configured_override(session)
        # True, as new_session() left it, is the usual ones.
        named = session.get_config_variable("ca_bundle")
        ca_bundle = named if isinstance(named, str) else None
        ssm = _new_client(session, identity, region, "ssm")
        self._clients = {"ssm": ssm}
        self.place = AwsLocation(
            region=ssm.meta.region_name,
            ssm_endpoint=ssm.meta.endpoint_url,
            ssmmessages_endpoint=parse_override(override) if override else None,
            ca_bundle=ca_bundle,
        )

    def client(self, service: str) -> BaseClient:
        """Return the client of ``service``."""
        with self._lock:
            if service not in self._clients:
                self._clients[service] = _new_client(
                    self._session,
                    self._identity,
                    self._region,
                    service,
                    self._beside_ssm(service),
                )
            return self._clients[service]

    def _beside_ssm(self, service: str) -> str | None:
        """Return the emulator's endpoint, if SSM is one's and ``service`` is too.

        It shares SSM's port, and AWS itself knows neither its keys nor its instances.
        """
        endpoint = self.place.ssm_endpoint
        name = _EMULATED.get(service)
        if name is None or _is_configured(self._session, name):
            return None
        host = urlsplit(endpoint).hostname or ""
        return endpoint if is_loopback_host(host) else None

    def close(self) -> None:
        """Close what is open."""
        for client in self._clients.values():
            client.close()


_RENEWAL: Final = "Login"
"""The operation named in errors of a mere check of the keys."""


def _ignore(_outcome: TunnelError | None) -> None:
    """Do nothing."""


class AwsClient:
    """The APIs as one identity sees them.

    One client of a service serves all tunnels of the identity: it is thread-safe. It
    is made at the first call, and made again only if that failed.

    Args:
        identity: Who and where.
        noted: Called in the thread of each call with its failure, or None.
        holder: Has the keys to sign with, instead of the identity's own.
    """

    def __init__(
        self,
        identity: Identity,
        noted: Callable[[TunnelError | None], None] = _ignore,
        holder: AccessKeyHolder | None = None,
    ) -> None:
        self._identity = identity
        self._holder = holder
        self._noted = noted
        self._lock = threading.Lock()
        self._connection: _Connection | None = None
        self._refused: tuple[ReadOnlyCredentials, CredentialsUnusable] | None = None

    @property
    def place(self) -> AwsLocation | None:
        """Location of this identity's sessions; None before the first call."""
        return None if self._connection is None else self._connection.place

    @property
    def profile(self) -> str:
        """The profile's name; empty for the default."""
        return _profile_name(self._identity)

    @property
    def refreshes(self) -> Refreshes:
        """Counts of the attempts to get keys."""
        connection = self._connection
        return Refreshes() if connection is None else connection.credentials.refreshes

    def call(self, operation: str, /, **parameters: object) -> Answer:
        """Call the SSM API, as :meth:`call_service` does.

        Raises:
            AwsError: In the kinds of protocol 1.7.
            SessionGone: ``SessionId`` was given, and there is no such session.
        """
        return self.call_service("ssm", operation, **parameters)

    def call_service(
        self, service: str, operation: str, /, **parameters: object
    ) -> Answer:
        """Call an API once; twice if the keys were refused and there are new ones.

        Raises:
            AwsError: In the kinds of protocol 1.7.
            SessionGone: ``SessionId`` was given, and there is no such session.
        """
        connection = self._connect(operation)

        def attempt() -> Answer:
            return self._attempt(connection, service, operation, parameters)

        try:
            answer = _with_valid_keys(connection.credentials, attempt)
        except TunnelError as error:
            self._note(connection, error)
            raise
        self._note(connection, None)
        return answer

    def keys(self, operation: str) -> tuple[Keys | None, AwsLocation]:
        """Return valid keys for ``operation``, or None if there are none at all.

        Raises:
            AwsError: There are, but they could not be refreshed.
        """
        connection = self._connect(operation)
        generation = connection.credentials.generation
        try:
            keys = self._contained(
                connection.credentials.keys,
                lambda: _context(connection, "ssmmessages", operation, {}),
            )
        except TunnelError as refusal:
            connection.credentials.forget(generation)
            self._noted(refusal)
            raise
        return keys, connection.place

    def renew(self, *, afresh: bool) -> CredentialExpiry:
        """Refresh the keys if they are about to expire; ``afresh`` reads them again.

        Raises:
            AwsError: There are none, they cannot be refreshed, or they are still those
                that the service has refused.
        """
        connection = self._connect(_RENEWAL)
        credentials = connection.credentials
        if afresh:
            credentials.forget(credentials.generation)

        def look() -> CredentialExpiry | None:
            keys = credentials.get_frozen_credentials()
            if self._refused is not None and self._refused[0] == keys:
                return None
            ends_at = credentials.ends_at()
            advice = "" if ends_at is None else credentials.renewal()
            return CredentialExpiry(ends_at, advice, credentials.expires_at)

        try:
            expiry = self._contained(
                look, lambda: _context(connection, "sts", _RENEWAL, {})
            )
        except TunnelError:
            credentials.forget(credentials.generation)
            raise
        if expiry is None:
            assert self._refused is not None, "keys were compared with refused ones"
            raise type(self._refused[1])(*self._refused[1].args)
        return expiry

    def _note(self, connection: _Connection, outcome: TunnelError | None) -> None:
        if outcome is None:
            self._refused = None
        elif isinstance(outcome, CredentialsUnusable):
            keys = connection.credentials.handed_out
            if outcome.code in CREDENTIAL_CODES and keys is not None:
                self._refused = keys, outcome
        self._noted(outcome)

    def close(self) -> None:
        """Close the client; idempotent."""
        if self._connection is not None:
            self._connection.close()

    def _connect(self, operation: str) -> _Connection:
        with self._lock:
            if self._connection is not None:
                return self._connection
            try:
                self._connection = self._contained(
                    lambda: _open(self._identity, self._holder),
                    lambda: self._unconnected(operation),
                )
            except TunnelError as error:
                refusal = error
            else:
                return self._connection
        self._noted(refusal)
        raise refusal

    def _attempt(
        self,
        connection: _Connection,
        service: str,
        operation: str,
        parameters: Mapping[str, object],
    ) -> Answer:
        def ask() -> Answer:
            method = getattr(connection.client(service), xform_name(operation))
            return Answer(method(**parameters))

        return self._contained(
            ask, lambda: _context(connection, service, operation, parameters)
        )

    def _contained(self, work: Callable[[], T], during: Callable[[], CallContext]) -> T:
        """Do ``work``; whatever it raises becomes what it means to a tunnel."""
        return contained(work, lambda error: translate(error, during()))

    def _unconnected(self, operation: str) -> CallContext:
        return CallContext(
            operation,
            self._identity.region or "",
            renewal="",
            profile=_profile_name(self._identity),
            unit=own_service_unit(),
        )


def _open(identity: Identity, holder: AccessKeyHolder | None) -> _Connection:
    quiet_botocore()
    session = new_session(identity.profile, identity.network)
    region = identity.region or default_region(session)
    if not region:
        raise NoRegionError
    return _Connection(identity, session, region, holder)


def _role(identity: Identity) -> AssumedRole | None:
    if identity.role_arn is None:
        return None
    return AssumedRole(
        identity.role_arn,
        identity.external_id,
        identity.role_session_name,
        identity.mfa_serial,
    )


_making = threading.Lock()
"""Held while a client is made, which is 35 ms of work and asks nobody: twenty at once
would leave the event loop every twentieth turn of the interpreter."""


def _new_client(
    session: Session,
    identity: Identity,
    region: str,
    service: str,
    endpoint_url: str | None = None,
) -> BaseClient:
    if service == "ssm" and identity.endpoint_url is not None:
        endpoint_url = identity.endpoint_url
        check_endpoint(endpoint_url, "endpoint_url")
    try:
        # What boto3.Session.client() calls; importing boto3 itself brings S3's
        # transfers along: 0.15 s of the daemon's start, and 6 MiB.
        with _making:
            client: BaseClient = session.create_client(
                service,
                region_name=region,
                endpoint_url=endpoint_url,
                config=Config(
                    # Retrying is decided above, where it is known what waits (design
                    # D10).
                    retries={"total_max_attempts": 1, "mode": "standard"},
                    user_agent_extra=f"ssmtunneld/{__version__}",
                ),
            )
    except ValueError:
        # botocore quotes the URL, which may hold a password.
        variable = f"AWS_ENDPOINT_URL_{service.upper()}"
        problem = f"{variable}, or the profile's endpoint_url, is not a URL"
        raise SettingError(problem) from None
    return client


def _profile_name(identity: Identity) -> str:
    return identity.profile or os.environ.get("AWS_PROFILE", "")


def _configured_override(session: Session) -> str | None:
    # botocore has no ssmmessages service, so this is read here in its manner.
    if session.get_config_variable("ignore_configured_endpoint_urls"):
        return None
    return _configured_endpoint(session, "ssmmessages")


def _is_configured(session: Session, name: str) -> bool:
    """Tell whether botocore is told where a service is, alone or with all services."""
    if session.get_config_variable("ignore_configured_endpoint_urls"):
        return False
    everything = os.environ.get("AWS_ENDPOINT_URL") or session.get_scoped_config().get(
        "endpoint_url"
    )
    return bool(everything or _configured_endpoint(session, name))


def _configured_endpoint(session: Session, key: str) -> str | None:
    named = os.environ.get(f"AWS_ENDPOINT_URL_{key.upper()}")
    if named:
        return named
    name = session.get_scoped_config().get("services")
    services = session.full_config.get("services", {}).get(name, {})
    settings = services.get(key, {})
    endpoint = settings.get("endpoint_url") if isinstance(settings, dict) else None
    return endpoint if isinstance(endpoint, str) else None


def _with_valid_keys(
    credentials: CredentialSource, attempt: Callable[[], Answer]
) -> Answer:
    """Return what ``attempt`` does; try twice if the keys were refused and renewed."""
    generation = credentials.generation
    try:
        return attempt()
    except CredentialsUnusable as error:
        if error.code not in CREDENTIAL_CODES:
            credentials.forget(generation)
            raise
        if not credentials.renew(generation):
            raise
    return attempt()


def _target_of(parameters: Mapping[str, object]) -> str:
    """Return the node that a call is about; empty if it is about none."""
    named = parameters.get("Target") or parameters.get("InstanceId")
    match parameters:
        case {"Targets": [{"Values": [str(node)]}]}:
            return node
        case {"InstanceIds": [str(node)]} | {"Resources": [str(node)]}:
            return node
        case _:
            return str(named or "")


def _context(
    connection: _Connection,
    service: str,
    operation: str,
    parameters: Mapping[str, object],
) -> CallContext:
    return CallContext(
        operation,
        connection.place.region,
        service=service,
        renewal=connection.credentials.renewal(),
        profile=connection.profile,
        target=_target_of(parameters),
        document=str(parameters.get("DocumentName", "")),
        session_id=str(parameters.get("SessionId", "")),
        by_request=connection.by_request,
        unit=own_service_unit(),
        secrets=connection.credentials.known_secrets(),
    )
