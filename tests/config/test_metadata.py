"""Facts that are declared with each setting."""

from typing import Annotated, Literal

import pytest
from pydantic import BaseModel, Field

from ssmtunneld.config.fields import Duration, KeepAlive, Size
from ssmtunneld.config.metadata import (
    EXPANDS,
    Only,
    Reload,
    Setting,
    expanding_keys,
    keys_for,
    reload_of,
    settings_of,
)
from ssmtunneld.config.model import DaemonSettings, TunnelDefaults, TunnelSettings

SECTIONS = [DaemonSettings, TunnelDefaults, TunnelSettings]


class Section(BaseModel, use_attribute_docstrings=True):
    pause: Annotated[Annotated[Duration, Field(ge=60)] | None, Reload.LIVE] = None
    """A pause. See [pauses](pauses.md)."""
    host: Annotated[str | None, Reload.SESSIONS, EXPANDS, Only.FIXED] = None
    """A host,
    [or not](host.md)."""
    size: Annotated[Size, Field(gt=0, le=2048)] = 1024


class Narrower(Section):
    host: str
    kind: Annotated[Literal["a", "b"], Reload.LISTENERS] = "a"


@pytest.mark.parametrize("model", SECTIONS)
def test_every_setting_declares_what_a_change_of_it_needs(model):
    undeclared = [s.key for s in settings_of(model) if s.reload is None]
    assert undeclared == (["name"] if model is TunnelSettings else [])


@pytest.mark.parametrize("model", SECTIONS)
def test_every_setting_is_declared_once(model):
    for key, field in model.model_fields.items():
        for kind in (Reload, Only):
            assert sum(isinstance(mark, kind) for mark in field.metadata) <= 1, key


@pytest.mark.parametrize("model", SECTIONS)
def test_every_setting_is_described_in_whole_sentences(model):
    for setting in settings_of(model):
        assert setting.kind
        assert setting.description[:1] in "`[" or setting.description[0].isupper()
        assert setting.description.endswith((".", ".)"))
        assert "|" not in setting.description


def test_all_that_is_known_of_a_setting_comes_from_its_field():
    pause, host, size = settings_of(Section)
    assert pause == Setting(
        key="pause",
        kind="duration from 1m",
        default=None,
        required=False,
        reload=Reload.LIVE,
        only=None,
        expands=False,
        description="A pause. See [pauses](pauses.md).",
    )
    assert (host.reload, host.only, host.expands) == (
        Reload.SESSIONS,
        Only.FIXED,
        True,
    )
    assert (size.kind, size.default) == ("size above 0B to 2KiB", '"1KiB"')
    assert size.reload is None


def test_a_narrower_section_keeps_what_it_does_not_repeat():
    _, host, _, kind = settings_of(Narrower)
    assert (host.required, host.reload, host.expands) == (True, Reload.SESSIONS, True)
    assert host.description == "A host, [or not](host.md)."
    assert (kind.kind, kind.default) == ('`"a"`, `"b"`', '"a"')
    assert reload_of(Narrower, "kind") is Reload.LISTENERS
    assert keys_for(Narrower, Only.FIXED) == {"host"}
    assert keys_for(Narrower, Only.DYNAMIC) == set()
    assert expanding_keys(Narrower) == ("host",)


def test_links_are_for_readers_of_the_docs():
    pause, host, _ = settings_of(Section)
    assert pause.plain_description == "A pause."
    assert host.plain_description == "A host, or not."


def test_a_type_without_a_name_is_told_by_its_parts():
    class Mixed(BaseModel):
        either: KeepAlive | Literal["never"] = 1.0
        flag: bool = True
        rate: Annotated[float, Field(gt=0)] = 1.0

    kinds = [setting.kind for setting in settings_of(Mixed)]
    assert kinds == [
        'duration, or `false`, or `"never"`',
        "`true`, `false`",
        "number above 0",
    ]
