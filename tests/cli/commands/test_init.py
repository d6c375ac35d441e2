"""``ssmtunneld init`` by options; typed it is in ``test_conversation``."""

import os
import re

import pytest

from ssmtunneld.config import load_config
from ssmtunneld.testing import EmulatorThread
from tests.cli.household import GREETING, call, greeting_from
from tests.integration.processes import running
from tests.integration.world import use_loopback_aws

TARGET = "i-0123456789abcdef0"


@pytest.fixture
def path(home):
    return home / "config" / "ssmtunneld" / "config.toml"


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch):
    for name in [*os.environ]:
        if name.startswith("AWS_") or name.upper().endswith(("_PROXY", "_CA_BUNDLE")):
            monkeypatch.delenv(name)


def test_all_of_it_can_be_said_by_options(path, capsys):
    words = ("ssh=22", "orders.internal:5432", "--target", TARGET, "--profile", "prod")
    code, out, err = call(capsys, "init", *words, "--region", "eu-west-1")
    assert (code, err) == (0, "")
    config = load_config(path, {})
    assert [(t.name, t.host, t.port) for t in config.tunnels] == [
        ("ssh", None, 22),
        ("orders", "orders.internal", 5432),
    ]
    assert out.startswith(f"{path}: written, with ssh, orders\n\nNext:\n")
    assert "  ssmtunneld run " in out
    assert re.search(r"  psql -h localhost -p [0-9]+ -U USER   # orders", out)
    assert call(capsys, "check")[0] == 0


def test_a_file_that_exists_is_kept_unless_it_is_forced(path, capsys):
    path.parent.mkdir(parents=True)
    path.write_text("# mine\n")
    words = ("init", "22", "--target", TARGET)
    code, _, err = call(capsys, *words)
    assert (code, path.read_text()) == (2, "# mine\n")
    assert f"{path} exists; replace it with --force" in err
    assert call(capsys, *words, "--force")[0] == 0
    assert load_config(path, {}).tunnels[0].port == 22


def test_another_file_is_named_in_what_comes_next(home, capsys):
    path = home / "other.toml"
    _, out, _ = call(capsys, "init", "22", "--target", TARGET, "-c", path)
    assert f"ssmtunneld run -c {path}" in out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("22",), "which --target?"),
        (("--target", TARGET), "where to?"),
        (("x", "--target", TARGET), "is not a destination"),
        (("22", "--target", TARGET, "--listen", "1", "--listen", "2"), "--listen 2"),
        (("22", "--target", "web"), "is not a target"),
        (("22", "--target", TARGET, "--region", "x"), "is not a region"),
    ],
)
def test_what_is_missing_or_wrong_is_said_and_nothing_written(
    path, words, message, capsys
):
    code, _, err = call(capsys, "init", *words)
    assert (code, message in err, path.exists()) == (2, True, False), err


def test_what_the_environment_says_is_written_down(path, monkeypatch, capsys):
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-north-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9999")
    monkeypatch.setenv("AWS_PROFILE", "dev")
    words = ("init", "ssh=22", "80", "--target", TARGET, "--listen", "2222")
    code, out, err = call(capsys, *words)
    assert (code, err) == (0, ""), err
    first, second = load_config(path, {}).tunnels
    assert (first.region, first.profile) == ("eu-north-1", "dev")
    assert first.endpoint_url == "http://127.0.0.1:9999"
    assert str(first.listen[0]) == "localhost:2222"
    assert str(second.listen[0]) != "localhost:2222"
    assert "needed wherever it runs" not in out


@pytest.mark.parametrize("profile", [(), ("--profile", "dev")])
def test_keys_of_the_environment_are_not_written_but_told(
    path, profile, monkeypatch, capsys
):
    keys = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
    for name in keys:
        monkeypatch.setenv(name, "AKIAEMULATOR00000000")
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example:3128")
    out = call(capsys, "init", "22", "--target", TARGET, *profile)[1]
    told = "" if profile else "".join(f"{name}, " for name in keys)
    assert (
        f"not in the file, but needed where the daemon runs: {told}HTTPS_PROXY\n" in out
    )
    assert "AKIA" not in out + path.read_text()


def test_beside_another_daemon_what_comes_next_names_the_file(path, operator, capsys):
    out = call(capsys, "init", "22", "--target", TARGET)[1]
    assert f"ssmtunneld check --live -c {path} " in out
    assert f"ssmtunneld run -c {path} " in out


def test_what_it_wrote_is_served_without_the_variables_that_it_wrote_down(
    home, monkeypatch, tmp_path, path, greeter, capfd
):
    use_loopback_aws(monkeypatch, tmp_path)
    with EmulatorThread() as emulator:
        for name, value in emulator.environment.items():
            monkeypatch.setenv(name, value)
        words = (f"web={greeter}", "--target", TARGET, "--listen", "127.0.0.1:0")
        assert call(capfd, "init", *words)[0] == 0
        (tunnel,) = load_config(path, {}).tunnels
        assert tunnel.endpoint_url == emulator.endpoint_url
        for name in ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_ENDPOINT_URL_SSM"):
            monkeypatch.delenv(name, raising=False)
        keys = {n: v for n, v in emulator.environment.items() if "KEY" in n}
        with running(path, None, **keys) as program:
            program.wait_for(r"daemon\.ready")
            bound = program.wait_for(r"listener\.bound .*address=127\.0\.0\.1:(\d+)")
            assert greeting_from(int(bound[1])) == GREETING
            assert program.stop() == 0
