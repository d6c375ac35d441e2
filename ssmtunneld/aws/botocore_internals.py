"""Every private name of botocore that this package uses, and nothing else.

botocore has no public way to replace how a role is assumed, to bound a
``credential_process``, to keep the metadata services off proxies, to tell when
credentials end, to parse XML in pieces, or to do without what writes its documentation.
A release can rename what stands here: ``CONTRACT`` lists each name, and its test says
which one a release lacks. Nothing is set that was not there before, so that a renamed
attribute fails instead of being ignored.
"""

from __future__ import annotations

import inspect
from datetime import UTC, datetime
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final, Self
from xml.etree import ElementTree as ET

import botocore
from typing_extensions import override

from ssmtunneld.base.foreign import clean
from ssmtunneld.base.lean_imports import leave_out
from ssmtunneld.base.record import Record
from ssmtunneld.errors import RequestRejected

_DOCUMENTATION: Final = {
    "botocore.docs.docstring": (
        "ClientMethodDocstring",
        "PaginatorDocstring",
        "WaiterDocstring",
    ),
    "botocore.docs.service": ("ServiceDocumenter",),
}
"""Classes that botocore imports to write documentation, by module."""


class _NoDocstring(str):
    """Stands in for a docstring that would be written once somebody asks for it."""

    __slots__ = ()

    def __new__(cls, *_: object, **__: object) -> Self:
        return str.__new__(cls)


for _module, _names in _DOCUMENTATION.items():  # 1.4 MiB
    leave_out(_module, dict.fromkeys(_names, _NoDocstring))

from botocore import credentials, parsers, utils  # noqa: E402 - what it leaves out comes with it
from botocore.session import Session  # noqa: E402 - as above

if TYPE_CHECKING:
    from collections.abc import Callable

    from botocore.credentials import Credentials

CONTAINER_ROLE: Final = credentials.ContainerProvider.METHOD
"""botocore's provider of the role of a container or pod."""
ENVIRONMENT: Final = credentials.EnvProvider.METHOD
"""botocore's provider of keys in the environment."""
INSTANCE_ROLE: Final = credentials.InstanceMetadataProvider.METHOD
"""botocore's provider of the role of an instance."""
PROCESS: Final = credentials.ProcessProvider.METHOD
"""botocore's provider of what a ``credential_process`` prints."""
ROLE: Final = credentials.AssumeRoleProvider.METHOD
"""botocore's provider of profiles with a role."""


def expiry_of(found: Credentials) -> float | None:
    """Return when credentials end, in Unix seconds; None if they do not say."""
    # Credentials that never end have no such attribute.
    expiry = getattr(found, "_expiry_time", None)
    return expiry.timestamp() if isinstance(expiry, datetime) else None


def replace_role_loading(
    session: Session,
    load: Callable[[str, Callable[[str], Credentials]], Credentials],
    prompter: Callable[[str], str],
) -> None:
    """Let ``load`` return the credentials of a profile with a role.

    Args:
        session: The session whose chain of providers is changed.
        load: Takes the profile's name, and what botocore would have called with it.
        prompter: Called instead of asking for an MFA code on the terminal.
    """
    provider = _provider(session, ROLE)
    original: Callable[[str], Credentials] = _method(
        provider, "_load_creds_via_assume_role"
    )
    vars(provider)["_load_creds_via_assume_role"] = lambda name: load(name, original)
    _replace(provider, "_prompter", prompter)


def replace_prompter(
    session: Session, prompter: Callable[[str], str], cache: object
) -> None:
    """Ask for MFA codes by ``prompter``, and keep the sessions of roles in ``cache``.

    Args:
        session: The session whose chain of providers is changed.
        prompter: Takes ``Enter MFA code for SERIAL: `` and returns the code.
        cache: Has what botocore's own cache of roles is asked for.
    """
    provider = _provider(session, ROLE)
    _replace(provider, "_prompter", prompter)
    _replace(provider, "cache", cache)


def replace_processes(session: Session, popen: Callable[..., object]) -> None:
    """Start every ``credential_process`` of ``session`` by ``popen``."""
    _replace(_provider(session, PROCESS), "_popen", popen)
    # The profile in use above; profiles that are the source of roles here.
    builder = _attribute(_provider(session, ROLE), "_profile_provider_builder")

    def make(profile_name: str) -> credentials.ProcessProvider:
        starter: Any = popen  # botocore's types ask for the class itself
        return credentials.ProcessProvider(
            profile_name, lambda: session.full_config, starter
        )

    _method(builder, "_create_process_provider")
    vars(builder)["_create_process_provider"] = make


def replace_environment(session: Session, environ: dict[str, str]) -> None:
    """Look for keys in ``environ`` instead of the process's own environment."""
    chain = session.get_component("credential_provider")
    # A profile that is named has this provider left out.
    if any(provider.METHOD == ENVIRONMENT for provider in chain.providers):
        _replace(chain.get_provider(ENVIRONMENT), "environ", environ)
    _replace(chain.get_provider(CONTAINER_ROLE), "_environ", environ)


def replace_metadata_senders(
    session: Session, make_sender: Callable[[float], object]
) -> None:
    """Ask instance and container for their roles by senders of our own.

    Args:
        session: The session whose chain of providers is changed.
        make_sender: Takes the seconds for one question, and returns what has a ``send``
            like ``URLLib3Session``'s.
    """
    instance = _attribute(_provider(session, INSTANCE_ROLE), "_role_fetcher")
    _replace(instance, "_session", make_sender(_attribute(instance, "_timeout")))
    container = _attribute(_provider(session, CONTAINER_ROLE), "_fetcher")
    seconds = utils.ContainerMetadataFetcher.TIMEOUT_SECONDS
    _replace(container, "_session", make_sender(seconds))


def region_by(session: Session, make_sender: Callable[[float], object]) -> str | None:
    """Return the region of the instance that this is, or None.

    Args:
        session: Has the settings of the metadata service.
        make_sender: As :func:`replace_metadata_senders` has it.
    """
    provider = utils.IMDSRegionProvider(session)
    fetcher = _method(provider, "_get_fetcher")()
    _replace(fetcher, "_session", make_sender(_attribute(fetcher, "_timeout")))
    region: str | None = provider.provide()
    return region


_PIECE: Final = 16 * 1024
"""Bytes of XML that are parsed at a time: a millisecond or two."""


class _ParserFactory(parsers.ResponseParserFactory):
    """Makes botocore's parsers, of which those of XML go piece by piece.

    While such a piece is parsed, no other thread runs: the interpreter's lock is held.
    """

    @override
    def create_parser(self, protocol_name: str) -> parsers.ResponseParser:
        """Return the parser of a protocol."""
        parser = super().create_parser(protocol_name)
        if isinstance(parser, parsers.BaseXMLResponseParser):
            _method(parser, "_parse_xml_string_to_dom")
            vars(parser)["_parse_xml_string_to_dom"] = _parse_xml
        return parser


def _parse_xml(text: bytes) -> ET.Element:
    # Without entities, which are refused before (``aws/api/http.py``).
    parser = ET.XMLParser(  # noqa: S314 - as botocore itself
        target=ET.TreeBuilder(),
        encoding=parsers.ResponseParser.DEFAULT_ENCODING,
    )
    try:
        for start in range(0, len(text), _PIECE):
            parser.feed(text[start : start + _PIECE])
        root: ET.Element = parser.close()
    except ET.ParseError as error:
        raise parsers.ResponseParserError(f"not XML: {error}") from None
    return root


def parse_in_pieces(session: Session) -> None:
    """Let no answer in XML, however large, hold up other threads."""
    session.register_component("response_parser_factory", _ParserFactory())


class PrivateName(Record):
    """One private name of botocore, and how to see that it is still there."""

    name: str
    """Class and attribute."""
    holds: Callable[[], bool]
    """Returns whether it is there and takes what it is given here."""


def _new_session() -> Session:
    session = Session()
    session.set_config_variable("region", "us-east-1")
    return session


def _holds(make: Callable[[], object], name: str) -> bool:
    owner = make()
    return name in vars(owner) or hasattr(type(owner), name)


def _is_defined(module: str, name: str) -> bool:
    return isinstance(getattr(import_module(module), name), type)


def _takes(function: Callable[..., object], *names: str) -> bool:
    return list(inspect.signature(function).parameters)[: len(names)] == list(names)


def _role_provider() -> Any:  # noqa: ANN401 - what botocore has no type for
    return _provider(_new_session(), ROLE)


def _ending_credentials() -> Credentials:
    return credentials.RefreshableCredentials(
        "", "", "", datetime.max.replace(tzinfo=UTC), dict, ROLE
    )


CONTRACT: Final = (
    PrivateName(
        "AssumeRoleProvider._load_creds_via_assume_role",
        lambda: _takes(
            _method(_role_provider(), "_load_creds_via_assume_role"), "profile_name"
        ),
    ),
    PrivateName(
        "AssumeRoleProvider._prompter", lambda: _holds(_role_provider, "_prompter")
    ),
    PrivateName("AssumeRoleProvider.cache", lambda: _holds(_role_provider, "cache")),
    PrivateName(
        "AssumeRoleProvider._profile_provider_builder",
        lambda: _holds(_role_provider, "_profile_provider_builder"),
    ),
    PrivateName(
        "ProfileProviderBuilder._create_process_provider",
        lambda: _takes(
            _method(credentials.ProfileProviderBuilder, "_create_process_provider"),
            "self",
            "profile_name",
        ),
    ),
    PrivateName(
        "ProcessProvider._popen",
        lambda: _holds(lambda: _provider(_new_session(), PROCESS), "_popen"),
    ),
    PrivateName(
        "EnvProvider.environ",
        lambda: _holds(lambda: credentials.EnvProvider({}), "environ"),
    ),
    PrivateName(
        "ContainerProvider._environ",
        lambda: _holds(lambda: credentials.ContainerProvider({}), "_environ"),
    ),
    PrivateName(
        "ContainerProvider._fetcher",
        lambda: _holds(lambda: credentials.ContainerProvider({}), "_fetcher"),
    ),
    PrivateName(
        "ContainerMetadataFetcher._session",
        lambda: _holds(utils.ContainerMetadataFetcher, "_session"),
    ),
    PrivateName(
        "InstanceMetadataProvider._role_fetcher",
        lambda: _holds(
            lambda: _provider(_new_session(), INSTANCE_ROLE), "_role_fetcher"
        ),
    ),
    PrivateName(
        "IMDSFetcher._session",
        lambda: _holds(utils.InstanceMetadataFetcher, "_session"),
    ),
    PrivateName(
        "IMDSFetcher._timeout",
        lambda: _holds(utils.InstanceMetadataFetcher, "_timeout"),
    ),
    PrivateName(
        "ContainerMetadataFetcher.TIMEOUT_SECONDS",
        lambda: _holds(utils.ContainerMetadataFetcher, "TIMEOUT_SECONDS"),
    ),
    PrivateName(
        "IMDSRegionProvider._get_fetcher",
        lambda: callable(
            _method(utils.IMDSRegionProvider(_new_session()), "_get_fetcher")
        ),
    ),
    PrivateName(
        "BaseXMLResponseParser._parse_xml_string_to_dom",
        lambda: _takes(
            _method(parsers.EC2QueryParser(), "_parse_xml_string_to_dom"), "xml_string"
        ),
    ),
    PrivateName(
        "RefreshableCredentials._expiry_time",
        lambda: _holds(_ending_credentials, "_expiry_time"),
    ),
    *(
        PrivateName(f"{module}.{name}", partial(_is_defined, module, name))
        for module, names in _DOCUMENTATION.items()
        for name in names
    ),
)
"""Attributes that every supported release of botocore has."""


def _provider(session: Session, method: str) -> Any:  # noqa: ANN401 - what botocore has no type for
    return session.get_component("credential_provider").get_provider(method)


def _attribute(owner: object, name: str) -> Any:  # noqa: ANN401 - as above
    try:
        return vars(owner)[name]
    except KeyError:
        raise _missing(owner, name) from None


def _replace(owner: object, name: str, value: object) -> None:
    _attribute(owner, name)
    vars(owner)[name] = value


def _method(owner: object, name: str) -> Any:  # noqa: ANN401 - as above
    method = getattr(owner, name, None)
    if method is None:
        raise _missing(owner, name)
    return method


def _missing(owner: object, name: str) -> RequestRejected:
    return RequestRejected(
        "Login",
        clean("BotocoreChanged"),
        clean(f"botocore {botocore.__version__} has no {type(owner).__name__}.{name}"),
        "install an older botocore, or a newer ssmtunneld",
    )
