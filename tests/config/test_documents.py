"""The example and the manual say the same as the code."""

import json
import re
import tomllib
from pathlib import Path

import pytest

from ssmtunneld.config import load_config, parse_config
from ssmtunneld.config.model import DaemonSettings, Tunnel, TunnelDefaults

ROOT = Path(__file__).parents[2]
EXAMPLE = (ROOT / "config.example.toml").read_text()
MANUAL = (ROOT / "docs" / "configuration.md").read_text()


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


def rows(heading):
    """The first two columns of the tables under a heading of the second level."""
    section = MANUAL.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    return dict(re.findall(r"^\| `([a-z_]+)` \| ([^|]+) \|", section, re.MULTILINE))


@pytest.mark.parametrize(
    ("heading", "model", "usual"),
    [
        ("`[daemon]`", DaemonSettings, DaemonSettings()),
        ("`[tunnels.NAME]`", Tunnel, TunnelDefaults()),
    ],
)
def test_the_manual_has_every_setting_with_its_default(heading, model, usual):
    written = usual.model_dump(mode="json")
    expected = {}
    for key in model.model_fields.keys() - {"name"}:
        if model.model_fields[key].is_required():
            expected[key] = "required"
        elif written[key] is None:
            expected[key] = "none"
        else:
            expected[key] = f"`{json.dumps(written[key])}`"
    assert rows(heading) == expected


def test_the_manual_s_first_example_is_a_configuration():
    (first, *_) = re.findall(r"```toml\n(.*?)```", MANUAL, re.DOTALL)
    parse_config(first, "c.toml", {})
