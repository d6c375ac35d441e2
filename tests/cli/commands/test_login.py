"""``ssmtunneld login``: the AWS CLI for browsers, a question for codes."""

import io
import json
import stat

import pytest

from ssmtunneld.aws.identity.mfa_cache import MfaRole, cache_folder
from tests.aws.conftest import aws_files, stub  # noqa: F401 - these are fixtures
from tests.aws.identity.test_credentials import MFA, ROLE, assumed
from tests.aws.stub import Reply
from tests.cli.household import Household, call, document, serving, tunnel_document
from tests.integration.world import tunnel

CODE = "123456"
SSO = """
sso_session = work
sso_account_id = 111122223333
sso_role_name = Admin
[sso-session work]
sso_region = eu-west-1
sso_start_url = https://work.example/start
"""


class Person:
    """Runs the command as somebody who has a device and perhaps the AWS CLI."""

    def __init__(self, home, files, sts, monkeypatch, capsys):
        self.home = home
        self.files = files
        self.sts = sts
        self._monkeypatch = monkeypatch
        self._capsys = capsys
        self.config = home / "config.toml"
        self.config.write_text(tunnel("db", port=1, profile="prod"))
        self.install(None)

    def install(self, script):
        """Install a program called ``aws``, or see to it that there is none."""
        folder = self.home / "bin"
        folder.mkdir(exist_ok=True)
        self._monkeypatch.setenv("PATH", str(folder))
        if script is not None:
            program = folder / "aws"
            program.write_text(f"#!/bin/sh\n{script}\n")
            program.chmod(0o755)

    def types(self, text):
        """Write ``text`` to standard input, which is no terminal."""
        self._monkeypatch.setattr("sys.stdin", io.StringIO(text))

    def logs_in(self, *arguments):
        return call(self._capsys, "login", *arguments)


@pytest.fixture
def person(home, aws_files, stub, monkeypatch, capsys):  # noqa: F811 - the way of pytest
    """Somebody with a profile whose role needs a code."""
    aws_files.write_keys("AKIABASE", profile="base")
    aws_files.config.write_text(
        f"[profile prod]\nrole_arn = {ROLE}\nsource_profile = base\n"
        f"mfa_serial = {MFA}\nregion = eu-west-1\n[profile base]\n"
    )
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", stub.url)
    stub.answer("AssumeRole", assumed("AKIAROLE"))
    return Person(home, aws_files, stub, monkeypatch, capsys)


def stored(**how):
    file = cache_folder() / f"{MfaRole(ROLE, MFA, **how).key}.json"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    return json.loads(file.read_text())["Credentials"]["AccessKeyId"]


def test_a_code_from_standard_input_begins_a_session(person):
    person.types(f"{CODE}\n")
    code, out, err = person.logs_in("db", "--code-stdin", "-c", person.config)
    assert (code, out) == (0, "")
    assert err.startswith("logged in as prod until ")
    assert err.endswith(", for 59m 59s\n")
    (asked,) = person.sts.calls("AssumeRole")
    assert (asked["TokenCode"], asked["SerialNumber"]) == (CODE, MFA)
    assert stored() == "AKIAROLE"


def test_a_profile_may_be_named_instead_of_a_tunnel(person):
    person.types(f"{CODE}\n")
    code, _, _ = person.logs_in("--profile", "prod", "--code-stdin")
    assert code == 0
    assert stored() == "AKIAROLE"


def test_a_role_of_our_own_configuration_may_need_a_code(person):
    ours = {"profile": "base", "role_arn": ROLE, "mfa_serial": MFA}
    person.config.write_text(tunnel("db", port=1, external_id="an-id", **ours))
    person.types(CODE)
    code, _, err = person.logs_in("db", "--code-stdin", "-c", person.config)
    assert (code, err[:32]) == (0, "logged in as base/Bastion until ")
    assert stored(external_id="an-id") == "AKIAROLE"


def test_without_a_terminal_it_says_how_to_give_a_code(person):
    person.types(CODE)
    code, _, err = person.logs_in("db", "-c", person.config)
    assert code == 2
    assert "no terminal to ask" in err
    assert "--code-stdin" in err
    assert person.sts.asked == []


class Keyboard(io.StringIO):
    """Standard input that is a terminal."""

    def isatty(self):
        return True


@pytest.mark.parametrize("typed", [CODE, f" {CODE} "])
def test_on_a_terminal_it_asks(person, monkeypatch, typed):
    asked = []
    monkeypatch.setattr("sys.stdin", Keyboard())
    monkeypatch.setattr("getpass.getpass", lambda text: asked.append(text) or typed)
    code, _, _ = person.logs_in("db", "-c", person.config)
    assert (code, asked) == (0, [f"MFA code of {MFA}: "])
    assert stored() == "AKIAROLE"


@pytest.mark.parametrize("typed", ["", "12345", "1234567", "12345x", "secret-password"])
def test_what_is_no_code_is_not_sent_or_repeated(person, typed):
    person.types(f"{typed}\n")
    code, out, err = person.logs_in("db", "--code-stdin", "-c", person.config)
    assert (code, out) == (2, "")
    assert err == "ssmtunneld: invalid MFA code: it must have 6 digits\n"
    assert person.sts.asked == []


def test_the_end_of_a_terminal_is_no_code(person, monkeypatch):
    def end(_):
        raise EOFError

    monkeypatch.setattr("sys.stdin", Keyboard())
    monkeypatch.setattr("getpass.getpass", end)
    code, _, err = person.logs_in("db", "-c", person.config)
    assert (code, "invalid MFA code" in err) == (2, True)


def test_a_refused_code_ends_it_with_what_to_do(person):
    said = "MultiFactorAuthentication failed with invalid MFA one time pass code."
    text = f"<ErrorResponse><Error><Code>AccessDenied</Code><Message>{said}</Message>"
    person.sts.answer("AssumeRole", Reply(403, f"{text}</Error></ErrorResponse>"))
    person.types(CODE)
    code, out, err = person.logs_in("db", "--code-stdin", "-c", person.config)
    assert (code, out) == (4, "")
    assert said.removesuffix(".") in err
    assert "enter the code that the device shows now" in err
    assert CODE not in err
    assert err.count("\n") == 1


def sso(person, script=None):
    person.files.config.write_text(f"[profile prod]{SSO}")
    person.install(script)


def test_a_browser_is_opened_by_the_aws_cli(person):
    sso(person, 'echo "$@" > "$HOME/said"')
    code, out, err = person.logs_in("db", "-c", person.config)
    assert (code, out) == (0, "")
    assert err == "running: aws sso login --profile prod\n"
    assert (person.home / "said").read_text() == "sso login --profile prod\n"


def test_what_the_aws_cli_could_not_do_is_a_failure(person):
    sso(person, "exit 7")
    code, _, err = person.logs_in("db", "-c", person.config)
    assert code == 1
    assert "aws sso login --profile prod failed with exit code 7" in err


@pytest.mark.parametrize("stream", ["", ">&2"])
def test_version_1_of_the_aws_cli_is_too_old(person, stream):
    version = f'[ "$1" = --version ] && echo aws-cli/1.29.0 Python/3.11 {stream}'
    sso(person, f"{version}\nexit 2")
    code, _, err = person.logs_in("db", "-c", person.config)
    assert code == 1
    said = "aws sso login --profile prod needs AWS CLI 2, and this is 1.29.0; install"
    assert said in err


def test_version_2_of_the_aws_cli_may_fail_for_other_reasons(person):
    sso(person, '[ "$1" = --version ] && echo aws-cli/2.15.1 Python/3.11\nexit 7')
    _, _, err = person.logs_in("db", "-c", person.config)
    assert err.endswith("failed with exit code 7; see its messages above\n")


def test_without_the_aws_cli_it_says_what_to_install(person):
    sso(person)
    code, _, err = person.logs_in("db", "-c", person.config)
    assert code == 1
    assert "needs the AWS CLI, which is not installed" in err
    assert "https://docs.aws.amazon.com/cli/" in err


def test_aws_login_is_run_too(person):
    person.files.config.write_text("[profile prod]\nlogin_session = arn:x\n")
    person.install("exit 0")
    code, _, err = person.logs_in("db", "-c", person.config)
    assert (code, err) == (0, "running: aws login --profile prod\n")


def test_a_browser_comes_before_the_code_where_both_are_needed(person):
    # The keys that the role is assumed with are there only after the first login.
    person.files.config.write_text(
        f"[profile prod]\nrole_arn = {ROLE}\nsource_profile = base\n"
        f"mfa_serial = {MFA}\nregion = eu-west-1\n[profile base]{SSO}"
    )
    person.files.credentials.write_text("")
    keys = "aws_access_key_id = AKIABASE\\naws_secret_access_key = x\\n"
    file = person.files.credentials
    # It stands for what only IAM Identity Center could give.
    plain = person.files.config.read_text().replace(SSO, "\n")
    (person.home / "plain").write_text(plain)
    person.install(
        f'printf "[base]\\n{keys}" > "{file}"\n'
        f'while read -r line; do echo "$line"; done < "{person.home}/plain" '
        f'> "{person.files.config}"'
    )
    person.types(CODE)
    code, _, err = person.logs_in("db", "--code-stdin", "-c", person.config)
    assert code == 0, err
    assert err.startswith("running: aws sso login --profile base\nlogged in as prod")
    assert stored() == "AKIAROLE"


def test_keys_need_no_login(person):
    code, _, err = person.logs_in("--profile", "base")
    assert code == 1
    assert "base needs no login" in err


def test_keys_of_the_environment_are_no_profiles(person, monkeypatch):
    person.config.write_text(tunnel("db", port=1))
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAEXPIRED")
    code, _, err = person.logs_in("db", "-c", person.config)
    assert code == 1
    assert err.startswith("ssmtunneld: AWS_ACCESS_KEY_ID and what belongs to it are")
    assert "set new ones and start what uses them again" in err
    assert "default" not in err


def test_of_a_daemon_without_credentials_it_says_what_status_says(person, monkeypatch):
    # Its environment is another one, and that is where they are missing.
    person.config.write_text(tunnel("db", port=1))
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAOURS")
    broken = tunnel_document(state="needs_login", reason="no keys", advice="restart it")
    daemon = Household(document(broken, pid=8, config=str(person.config)))
    with serving(daemon, person.config):
        code, _, err = person.logs_in("db", "-c", person.config)
    assert code == 1
    assert err == (
        "ssmtunneld: no login helps: the running daemon (pid 8) has no usable "
        "credentials: no keys; restart it\n"
    )


@pytest.mark.parametrize("arguments", [(), ("db", "--profile", "prod")])
def test_it_wants_one_name(person, arguments):
    code, _, err = person.logs_in(*arguments)
    assert code == 2
    assert "either the NAME of a tunnel or --profile" in err


def test_a_tunnel_that_does_not_exist_ends_it_with_2(person):
    code, _, err = person.logs_in("bd", "-c", person.config)
    assert code == 2
    assert "the tunnels are: db" in err


def test_a_profile_that_does_not_exist_ends_it_with_4(person):
    code, _, err = person.logs_in("--profile", "nobody")
    assert code == 4
    assert "nobody" in err
