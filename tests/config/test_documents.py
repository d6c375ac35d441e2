"""The example and the manual say the same as the code."""

import re
import sys
import tomllib
from pathlib import Path

from ssmtunneld.cli.application_protocol import DATABASES
from ssmtunneld.config import load_config, parse_config
from ssmtunneld.config.metadata import Reload, settings_of
from ssmtunneld.config.model import (
    DaemonSettings,
    FileSettings,
    TunnelDefaults,
    TunnelSettings,
)
from ssmtunneld.config.parsers import LONGEST_DURATION, SOCKET_PATH_LIMIT
from ssmtunneld.config.probes import EXAMPLES as PROBES
from ssmtunneld.config.probes import parse_probe
from tests.packaging import reference

ROOT = Path(__file__).parents[2]
EXAMPLE = (ROOT / "config.example.toml").read_text()
SECURITY = (ROOT / "docs" / "security.md").read_text()
MANUAL = reference.MANUAL.read_text()


def everything():
    """The example with the settings that stand in comments put into force."""
    return re.sub(r"^#(?=[a-z_]+ = )", "", EXAMPLE, flags=re.MULTILINE)


def test_the_example_is_a_configuration():
    config = load_config(ROOT / "config.example.toml", {})
    assert len(config.tunnels) >= 4


def test_the_example_with_everything_in_force_is_one_too(tmp_path):
    (tmp_path / "corporate-ca.pem").touch()
    (tmp_path / "me.pub").touch()
    parse_config(everything(), tmp_path / "config.toml", {})


def test_every_setting_is_in_the_example():
    data = tomllib.loads(everything())
    above = data.keys() - {"daemon", "defaults", "tunnels"}
    assert above == FileSettings.model_fields.keys()
    assert data["daemon"].keys() == DaemonSettings.model_fields.keys()
    used = set(data["defaults"]).union(*data["tunnels"].values())
    assert used == TunnelSettings.model_fields.keys() - {"name"}


def test_what_the_example_has_in_comments_is_the_default():
    above, process = EXAMPLE.split("\n[daemon]\n")
    process, tunnels = process.split("\n[defaults]\n")
    assert re.findall(r"^#([a-z_]+) = ", above, re.MULTILINE) == ["include"]
    for text, usual in ((process, DaemonSettings()), (tunnels, TunnelDefaults())):
        for key, value in re.findall(r"^#([a-z_]+) = ([^#\n]+)", text, re.MULTILINE):
            if (expected := getattr(usual, key)) is not None:
                written = tomllib.loads(f"{key} = {value}")
                read = type(usual).model_validate(written, context={})
                assert getattr(read, key) == expected


def test_the_manual_s_tables_are_those_of_the_source():
    # After a change of a setting: make reference
    assert reference.rewritten(MANUAL) == MANUAL


def test_the_manual_has_every_setting_once():
    listed = reference.listed(MANUAL)
    assert sorted(listed["[top]"]) == sorted(FileSettings.model_fields)
    assert sorted(listed["[daemon]"]) == sorted(DaemonSettings.model_fields)
    expected = sorted(TunnelSettings.model_fields.keys() - {"name"})
    assert sorted(listed["[tunnels.NAME]"]) == expected


def test_the_manual_explains_every_effect_of_a_change():
    section = MANUAL.split("| reload | what happens |")[1].split("\n\n")[0]
    rows = re.findall(r"^\| `([a-z]+)` \|", section, re.MULTILINE)
    assert rows == [effect.value for effect in Reload]


def test_the_manual_explains_every_kind_of_probe():
    section = MANUAL.split("\n## Probes\n")[1].split("\n## ")[0]
    assert re.findall(r'^\| `"([^"`]+)"` \|', section, re.MULTILINE) == [*PROBES]
    assert [str(parse_probe(text)) for text in PROBES] == [*PROBES]


def test_the_limits_in_the_docs_are_those_of_the_source():
    longest = int(LONGEST_DURATION // 86400)
    assert f"or a number of seconds; at most {longest} days" in MANUAL
    ours = {"linux": "Linux", "darwin": "macOS"}[sys.platform]
    assert re.search(rf"\b{SOCKET_PATH_LIMIT - 1} (bytes )?on {ours}", MANUAL)


def choices(model, key):
    """Return the values that a setting may have."""
    (kind,) = [setting.kind for setting in settings_of(model) if setting.key == key]
    return tuple(re.findall(r'`"([^"`]+)"`', kind))


def test_the_choices_of_commands_are_those_of_the_file():
    sources = [path.read_text() for path in ROOT.glob("ssmtunneld/cli/**/*.py")]
    for key in ("log_level", "log_format"):
        values = choices(DaemonSettings, key)
        listed = [
            tuple(re.findall(r'"(\w+)"', line))
            for source in sources
            for line in re.findall(rf'click\.Choice\(\["{values[0]}".*\]\)', source)
        ]
        assert listed
        assert set(listed) == {values}
    assert choices(TunnelSettings, "db_engine") == DATABASES


def test_the_manual_s_first_example_is_a_configuration():
    (first, *_) = re.findall(r"```toml\n(.*?)```", MANUAL, re.DOTALL)
    parse_config(first, "c.toml", {})


def test_the_examples_for_databases_are_configurations(tmp_path):
    (tmp_path / "global-bundle.pem").touch()
    page = (ROOT / "docs" / "databases.md").read_text()
    examples = re.findall(r"```toml\n(.*?)```", page, re.DOTALL)
    assert len(examples) > 1
    for example in examples:
        parse_config(example, tmp_path / "config.toml", {})
    # All of them fit into one file: no name or address is there twice.
    parse_config("\n".join(examples), tmp_path / "config.toml", {})
