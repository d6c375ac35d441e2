"""Options: the path of the configuration, durations, names of tunnels and groups."""

import click
import pytest
from click.testing import CliRunner

from ssmtunneld.cli.commands import status as status_module
from ssmtunneld.cli.main import COMMANDS, cli
from ssmtunneld.cli.options import (
    check_some,
    complete_groups,
    complete_names,
    load,
    load_in_use,
    one_line,
    seconds,
)
from ssmtunneld.errors import ConfigError
from tests.cli.household import (
    Household,
    call,
    document,
    serving,
    tunnel_document,
    waiting,
)
from tests.integration.world import tunnel


def test_the_option_wins_over_the_variable_and_that_over_the_directory(
    tmp_path, monkeypatch
):
    (tmp_path / "ssmtunneld").mkdir()
    files = [tmp_path / "option.toml", tmp_path / "variable.toml"]
    files.append(tmp_path / "ssmtunneld" / "config.toml")
    for file in files:
        file.write_text(tunnel("db", port=1))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("SSMTUNNELD_CONFIG", str(files[1]))
    assert load(files[0]).source == files[0]
    assert load(None).source == files[1]
    monkeypatch.delenv("SSMTUNNELD_CONFIG")
    assert load(None).source == files[2]


def test_variables_of_the_environment_stand_for_their_values(tmp_path, monkeypatch):
    monkeypatch.setenv("BASTION", "i-0123456789abcdef0")
    file = tmp_path / "config.toml"
    file.write_text(tunnel("db", target="${BASTION}", port=1))
    assert load(file).tunnels[0].target == "i-0123456789abcdef0"


def test_without_any_file_the_places_are_named(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.delenv("SSMTUNNELD_CONFIG", raising=False)
    with pytest.raises(ConfigError, match=r"looked for --config, \$SSMTUNNELD_CONFIG"):
        load(None)


def test_the_running_daemons_file_comes_before_the_usual_places(home, capsys):
    file = home / "daemon.toml"
    file.write_text(tunnel("db", port=1))
    with pytest.raises(ConfigError):
        load_in_use(None)
    with serving(Household(document(tunnel_document(), config=str(file))), file):
        assert load_in_use(None).source == file
        with pytest.raises(ConfigError):
            load(None)  # for who starts a daemon
        assert call(capsys, "check")[1].startswith(f"{file}: 1 tunnel\n")
        assert "127.0.0.1" in call(capsys, "env", "db", "--kind", "redis")[1]
        assert call(capsys, "hosts")[0] == 0


@pytest.mark.parametrize("command", ["check", "doctor", "hosts"])
def test_who_expects_another_file_is_told_of_the_running_daemons(home, capsys, command):
    usual = home / "config" / "ssmtunneld" / "config.toml"
    usual.parent.mkdir(parents=True)
    file = home / "daemon.toml"
    file.write_text("[tunnels.db\n")  # the file must be known before its problems
    words = f"ssmtunneld: taking the running daemon's file, {file}"
    with serving(Household(document(tunnel_document(), config=str(file))), file):

        def said(*options):
            err = call(capsys, command, *options)[2]
            return [line for line in err.splitlines() if "is not TOML" not in line]

        assert said() == [f"{words}; -c names another"]
        usual.touch()
        assert said() == [f"{words}, not {usual}; -c names another"]
        assert said("-c", file) == []
        if command != "hosts":
            assert said("--json") == []
        usual.unlink()
        usual.symlink_to(file)
        assert said() == []


@pytest.mark.parametrize(
    ("text", "value"),
    [("60", 60), ("0", 0), ("1.5m", 90), ("250ms", 0.25), ("2h", 7200), ("7s", 7)],
)
def test_a_duration_is_a_number_and_perhaps_a_unit(text, value):
    assert seconds(text) == pytest.approx(value)


@pytest.mark.parametrize("text", ["", "soon", "-1", "1 s", "1d", "1e3", "s", "0x1"])
def test_what_is_no_duration_is_refused_with_an_example(text):
    with pytest.raises(click.BadParameter, match="such as 60s or 2m"):
        seconds(text)


def completed(incomplete, **params):
    """Return the names that are offered, and what is said about them."""
    context = click.Context(status_module.status)
    context.params = params
    items = complete_names(context, context.command.params[0], incomplete)
    return {item.value: item.help for item in items}


def test_the_running_daemons_tunnels_are_offered(operator):
    operator.documents = [
        document(tunnel_document("db"), waiting("dead"), tunnel_document("web"))
    ]
    assert completed("") == {"db": "ready", "dead": "waiting", "web": "ready"}
    assert completed("d") == {"db": "ready", "dead": "waiting"}
    assert completed("d", names=("db",)) == {"dead": "waiting"}


def test_without_a_daemon_nothing_is_offered_and_nothing_is_said(home, capsys):
    assert completed("") == {}
    assert completed("", config_path=home / "x.toml") == {}
    assert capsys.readouterr() == ("", "")


def completed_groups(incomplete, **params):
    context = click.Context(status_module.status)
    context.params = params
    items = complete_groups(context, context.command.params[1], incomplete)
    return [item.value for item in items]


def test_the_running_daemons_groups_are_offered(operator):
    operator.documents = [
        document(
            tunnel_document("db", groups=["orders", "all"]),
            tunnel_document("web", groups=["other"]),
        )
    ]
    assert completed_groups("") == ["all", "orders", "other"]
    assert completed_groups("o") == ["orders", "other"]
    assert completed_groups("o", groups=("orders",)) == ["other"]


def test_without_a_daemon_the_groups_of_the_file_are_offered(home, capsys):
    (home / "conf.d").mkdir()
    file = home / "config.toml"
    file.write_text('include = "conf.d/*.toml"\n')
    (home / "conf.d" / "a.toml").write_text(tunnel("db", port=1, groups=["orders"]))
    assert completed_groups("", config_path=file) == ["orders"]
    file.write_text("nonsense")
    assert completed_groups("", config_path=file) == []
    assert completed_groups("") == []
    assert capsys.readouterr() == ("", "")


def test_a_command_for_some_tunnels_is_told_which():
    check_some(("a",), ())
    check_some((), ("x",))
    with pytest.raises(click.UsageError, match="which tunnels"):
        check_some((), ())


@pytest.mark.parametrize("text", ["", "a\nb", "\x1b[31m", "\udcff"])
def test_what_no_other_program_could_read_is_refused(text):
    @click.command()
    @click.option("--user", callback=one_line)
    def command(user):
        click.echo(user)

    refused = CliRunner().invoke(command, ["--user", text])
    assert refused.exit_code == 2
    assert "--user should be one line of printable text" in refused.output
    assert CliRunner().invoke(command, ["--user", "a b"]).output == "a b\n"
    assert CliRunner().invoke(command).exit_code == 0


@pytest.mark.parametrize("command", ["connect", "db-token"])
def test_a_user_is_one_line(capsys, command):
    code, _, err = call(capsys, command, "x", "--user", "\udcff")
    assert (code, "--user should be" in err) == (2, True)


ALONE = [
    ("emulator", ("--record-payloads",), "--record"),
    ("emulator", ("--tls-key", __file__), "--tls-cert"),
    ("check", ("--timeout", "1s"), "--live"),
    ("request", ("db", "--timeout", "1s"), "--wait"),
    ("import", ("-c", "x.toml"), "--add"),
    ("kubeconfig", ("prod", "--force"), "--write"),
    ("open", ("i-0123456789abcdef0", "1", "--timeout", "1s"), "-- CMD"),
    ("open", ("i-0123456789abcdef0", "1", "--reason", "why"), "--request"),
    ("open", ("i-0123456789abcdef0", "1", "--allow", "*:*"), "--socks"),
    ("proxy", ("i-0123456789abcdef0", "22", "--user", "me"), "--instance-connect"),
]


@pytest.mark.parametrize(("command", "words", "other"), ALONE)
def test_an_option_that_does_nothing_without_another_is_wrong_usage(
    home, command, words, other, capsys
):
    code, out, err = call(capsys, command, *words)
    option = next(word for word in reversed(words) if word.startswith("-"))
    spelled = option.replace("-c", "--config") if option == "-c" else option
    assert (code, out) == (2, "")
    assert f"{spelled} has no effect without {other}; " in err


def test_every_option_whose_help_names_another_first_is_among_them():
    found = {
        (command, option.opts[-1])
        for command in COMMANDS
        for option in cli.get_command(click.Context(cli), command).params
        if isinstance(option, click.Option)
        and (option.help or "").startswith(("With --", "With CMD"))
    }
    tried = {
        (command, next(word for word in reversed(words) if word.startswith("-")))
        for command, words, _ in ALONE
    }
    assert found
    assert {(c, o.replace("--config", "-c")) for c, o in found} <= tried
