"""``ssmtunneld init`` typed into a pseudo-terminal, at an emulator."""

import pytest

from ssmtunneld.config import load_config
from ssmtunneld.emulator.settings import EmulatorSettings, Pace
from ssmtunneld.testing import EmulatorThread
from tests.cli.household import GREETING, call, greeting_from
from tests.integration.processes import running
from tests.integration.terminal import Terminal
from tests.integration.world import use_loopback_aws
from tests.support.ports import free_port

TARGET = "i-0123456789abcdef0"
OTHER = "i-0bbbbbbbbbbbbbbbb"
INIT = ("-m", "ssmtunneld", "init")
DOWN = "\x1b[B"


@pytest.fixture
def service(home, monkeypatch, tmp_path):
    use_loopback_aws(monkeypatch, tmp_path)
    settings = EmulatorSettings(pace=Pace.NONE, targets=frozenset({TARGET, OTHER}))
    with EmulatorThread(settings) as emulator:
        for name, value in emulator.environment.items():
            monkeypatch.setenv(name, value)
        files = tmp_path / "aws-config"
        files.write_text("[profile dev]\n[profile prod]\n")
        monkeypatch.setenv("AWS_CONFIG_FILE", str(files))
        yield emulator


@pytest.fixture
def path(home):
    return home / "config" / "ssmtunneld" / "config.toml"


@pytest.fixture
def talk():
    """Start ``init`` in a terminal; it ends with the test, come what may."""
    started = []

    def start(*words):
        started.append(Terminal(*INIT, *words, columns=200))
        return started[-1]

    yield start
    for terminal in started:
        if terminal.process.poll() is None:
            terminal.process.kill()
            terminal.close()


def answer(terminal, question, text):
    terminal.wait_for(question)
    terminal.type(text)


def test_a_conversation_ends_in_a_file_that_check_passes_and_run_serves(
    service, path, talk, greeter, capfd
):
    port = free_port()
    terminal = talk()
    answer(terminal, "AWS profile", "\r")
    answer(terminal, "Region", "\r")
    terminal.wait_for(OTHER)
    answer(terminal, "Target", f"{DOWN}\r")
    answer(terminal, "Destinations", "nonsense\r")
    again = "(?s)is not a destination.*Destinations"
    answer(terminal, again, f"web={greeter}\r")
    answer(terminal, "Local port of web", f"{port}\r")
    answer(terminal, "Install it as a service", "n")
    assert terminal.close() == 0, terminal.raw
    assert "Next:" in terminal.raw
    (tunnel,) = load_config(path, {}).tunnels
    assert (tunnel.name, tunnel.target, tunnel.port) == ("web", OTHER, greeter)
    assert str(tunnel.listen[0]) == f"localhost:{port}"
    # The environment's, one proposed and accepted and one taken over.
    assert tunnel.region == service.environment["AWS_REGION"]
    assert tunnel.endpoint_url == service.endpoint_url
    assert call(capfd, "check", "-c", path)[0] == 0
    with running(path, None, **service.environment) as program:
        program.wait_for(r"daemon\.ready")
        assert greeting_from(port) == GREETING
        assert program.stop() == 0


def test_what_is_typed_is_all_and_what_is_not_is_what_the_question_names(
    service, path, talk
):
    terminal = talk("--profile", "dev", "--target", TARGET)
    usual = service.environment["AWS_REGION"]
    answer(terminal, rf"Region\? \(empty: {usual}\)", "us-east-2\r")
    answer(terminal, r"\[NAME=\]\[HOST:\]PORT.*\(empty: 22, ssh to the target", "\r")
    answer(terminal, r"Local port of ssh\? \(empty: [0-9]+\)", "\r")
    answer(terminal, "Install it as a service", "n")
    assert terminal.close() == 0, terminal.raw
    (tunnel,) = load_config(path, {}).tunnels
    assert (tunnel.region, tunnel.port) == ("us-east-2", 22)
    assert "# ssh -p " in path.read_text()


def test_a_profile_is_chosen_and_a_target_typed(service, path, talk):
    terminal = talk("80", "--region", "eu-west-1")
    answer(terminal, "AWS profile", f"{DOWN}{DOWN}\r")
    answer(terminal, "Target", f"{DOWN}{DOWN}\r")
    answer(terminal, "an id, name:web-1", "web\r")
    terminal.wait_for("is not a target")
    terminal.type("\x15tag:Role=jump\r")
    answer(terminal, "Local port", "\r")
    answer(terminal, "Install it as a service", "n")
    assert terminal.close() == 0, terminal.raw
    (tunnel,) = load_config(path, {}).tunnels
    assert (tunnel.profile, tunnel.target) == ("prod", "tag:Role=jump")


def test_a_file_that_exists_is_replaced_only_with_consent(service, path, talk):
    path.parent.mkdir(parents=True)
    path.write_text("# mine\n")
    terminal = talk()
    answer(terminal, "exists. Replace it", "n")
    assert terminal.close() == 1
    assert path.read_text() == "# mine\n"


def test_ctrl_c_leaves_nothing_behind(service, path, talk):
    terminal = talk()
    answer(terminal, "AWS profile", "\x03")
    assert terminal.close() == 130
    assert not path.exists()
