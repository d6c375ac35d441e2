"""The example and the manual say the same as the code."""

import re
import tomllib
from pathlib import Path

from ssmtunneld.config import load_config, parse_config
from ssmtunneld.config.metadata import Reload
from ssmtunneld.config.model import DaemonSettings, Tunnel, TunnelDefaults
from ssmtunneld.config.probes import EXAMPLES as PROBES
from ssmtunneld.config.probes import parse_probe
from tests.packaging import reference

ROOT = Path(__file__).parents[2]
EXAMPLE = (ROOT / "config.example.toml").read_text()
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
    assert data["daemon"].keys() == DaemonSettings.model_fields.keys()
    used = set(data["defaults"]).union(*data["tunnels"].values())
    assert used == Tunnel.model_fields.keys() - {"name"}


def test_what_the_example_has_in_comments_is_the_default():
    process, tunnels = EXAMPLE.split("\n[defaults]\n")
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
    assert sorted(listed["[daemon]"]) == sorted(DaemonSettings.model_fields)
    expected = sorted(Tunnel.model_fields.keys() - {"name"})
    assert sorted(listed["[tunnels.NAME]"]) == expected


def test_the_manual_explains_every_effect_of_a_change():
    section = MANUAL.split("| reload | what happens |")[1].split("\n\n")[0]
    rows = re.findall(r"^\| `([a-z]+)` \|", section, re.MULTILINE)
    assert rows == [effect.value for effect in Reload]


def test_the_manual_explains_every_kind_of_probe():
    section = MANUAL.split("\n## Probes\n")[1].split("\n## ")[0]
    assert re.findall(r'^\| `"([^"`]+)"` \|', section, re.MULTILINE) == [*PROBES]
    assert [str(parse_probe(text)) for text in PROBES] == [*PROBES]


def test_the_manual_s_first_example_is_a_configuration():
    (first, *_) = re.findall(r"```toml\n(.*?)```", MANUAL, re.DOTALL)
    parse_config(first, "c.toml", {})
