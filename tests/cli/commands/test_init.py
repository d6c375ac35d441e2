"""``ssmtunneld init`` by options; typed it is in ``test_conversation``."""

import pytest

from ssmtunneld.config import load_config
from ssmtunneld.testing import EmulatorThread
from tests.cli.household import call
from tests.integration.processes import running
from tests.integration.world import use_loopback_aws

TARGET = "i-0123456789abcdef0"


@pytest.fixture
def path(home):
    return home / "config" / "ssmtunneld" / "config.toml"


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
    assert "  psql -h localhost -p 5432 -U USER   # orders" in out
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
        (("22", "--target", "web"), "is not a target"),
        (("22", "--target", TARGET, "--region", "x"), "is not a region"),
    ],
)
def test_what_is_missing_or_wrong_is_said_and_nothing_written(
    path, words, message, capsys
):
    code, _, err = call(capsys, "init", *words)
    assert (code, message in err, path.exists()) == (2, True, False), err


def test_what_it_wrote_is_served(home, monkeypatch, tmp_path, path, capfd):
    use_loopback_aws(monkeypatch, tmp_path)
    with EmulatorThread() as emulator:
        url = emulator.endpoint_url
        words = ("init", "web=80", "--target", TARGET, "--endpoint-url", url)
        assert call(capfd, *words)[0] == 0
        with running(path, None, **emulator.environment) as program:
            program.wait_for(r"daemon\.ready")
            assert program.stop() == 0
