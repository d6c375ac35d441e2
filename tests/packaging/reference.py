"""The tables of settings in ``docs/configuration.md``, made from the source.

A table stands between two comments, the first of which names its settings: a key, or
the first and last of several that follow each other in the source::

    <!-- settings [tunnels.NAME]: listen, target..reason -->
    <!-- end -->

``python -m tests.packaging.reference`` (``make reference``) writes them after a change.
"""

import re
from pathlib import Path

from ssmtunneld.config import DaemonSettings, TunnelSettings
from ssmtunneld.config.metadata import expanding_keys, settings_of
from ssmtunneld.config.model import FileSettings

MANUAL = Path(__file__).parents[2] / "docs" / "configuration.md"
SECTIONS = {
    "[top]": FileSettings,
    "[daemon]": DaemonSettings,
    "[tunnels.NAME]": TunnelSettings,
}

_BLOCK = re.compile(
    r"(?P<start><!-- settings (?P<section>\[\S+\]): (?P<keys>[^>]+) -->\n)"
    r"(?P<table>.*?)(?P<end><!-- end -->)",
    re.DOTALL,
)
_VARIABLES = re.compile(r"(<!-- variables -->\n).*?(<!-- end -->)", re.DOTALL)
_HEAD = """\
| key | type | default | reload | meaning |
|---|---|---|---|---|
"""


def rewritten(text):
    """Return the manual's text with its tables as they should be."""
    text = _BLOCK.sub(_filled, text)
    variables = ", ".join(map(_code, expanding_keys(TunnelSettings)))
    return _VARIABLES.sub(rf"\g<1>{variables}\n\g<2>", text)


def listed(text):
    """Return the keys that the tables of a text have, by section, in their order."""
    found = {section: [] for section in SECTIONS}
    for block in _BLOCK.finditer(text):
        found[block["section"]] += _keys(block["section"], block["keys"])
    return found


def _filled(block):
    settings = {s.key: s for s in settings_of(SECTIONS[block["section"]])}
    keys = _keys(block["section"], block["keys"])
    rows = "".join(_row(settings[key]) for key in keys)
    return f"{block['start']}{_HEAD}{rows}{block['end']}"


def _keys(section, text):
    """Return the keys that ``a, b..d`` names."""
    every = [setting.key for setting in settings_of(SECTIONS[section])]
    keys = []
    for part in text.split(", "):
        first, _, last = part.partition("..")
        keys += every[every.index(first) : every.index(last or first) + 1]
    return keys


def _row(setting):
    default = "none" if setting.default is None else _code(setting.default)
    cells = [
        _code(setting.key),
        setting.kind,
        "required" if setting.required else default,
        setting.reload.value,
        setting.description + _notes(setting),
    ]
    return f"| {' | '.join(cells)} |\n"


def _notes(setting):
    notes = ""
    if setting.only is not None:
        notes += f" Only for {setting.only.value}."
    if setting.expands:
        notes += " Takes `${NAME}`."
    return notes


def _code(text):
    return f"`{text}`"


if __name__ == "__main__":
    MANUAL.write_text(rewritten(MANUAL.read_text("utf-8")), encoding="utf-8")
