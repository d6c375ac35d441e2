"""``ssmtunneld sessions`` and ``ssmtunneld sessions terminate``, at an emulator."""

import json
import os
from contextlib import ExitStack

import boto3
import pytest

from ssmtunneld.base.secret import Secret
from ssmtunneld.emulator.settings import EmulatorSettings, Pace
from ssmtunneld.observe import logs
from ssmtunneld.testing import EmulatorThread
from tests.cli.household import call, document, tunnel_document
from tests.integration.world import (
    ACCESS_KEY,
    SECRET_KEY,
    TARGET,
    tunnel,
    use_loopback_aws,
)

BOBS_KEY = "AKIABOBSOWNKEY000000"
BOB = "arn:aws:sts::123456789012:assumed-role/Admin/bob@example.com"
ME = "arn:aws:sts::123456789012:assumed-role/emulator/dev@example.com"
DOCUMENT = "AWS-StartPortForwardingSession"


@pytest.fixture
def service(home, monkeypatch, _logging):
    """An emulator where there is somebody else, too."""
    use_loopback_aws(monkeypatch, home)
    # The emulator, which runs in this process, stays off the standard output.
    logs.configure("error", "auto")
    settings = EmulatorSettings(
        pace=Pace.NONE,
        access_key=ACCESS_KEY,
        secret_key=Secret(SECRET_KEY),
        identities={BOBS_KEY: BOB},
    )
    with EmulatorThread(settings) as emulator:
        for name in ("SSM", "STS"):
            monkeypatch.setenv(f"AWS_ENDPOINT_URL_{name}", emulator.endpoint_url)
        yield emulator


def start(service, key=ACCESS_KEY, reason=None):
    client = boto3.client(
        "ssm",
        endpoint_url=service.endpoint_url,
        region_name="eu-west-1",
        aws_access_key_id=key,
        aws_secret_access_key="any",
    )
    given = {"Reason": reason} if reason else {}
    answer = client.start_session(Target=TARGET, DocumentName=DOCUMENT, **given)
    client.close()
    return answer["SessionId"]


def listed(capsys, *options):
    code, out, err = call(capsys, "sessions", "--json", *options)
    assert code == 0, err
    return {session["id"]: session for session in json.loads(out)["sessions"]}


def alive(service):
    return {s["id"] for s in service.sessions() if s["status"] != "Terminated"}


@pytest.fixture
def answer_with(monkeypatch):
    """Sit at the terminal and say something."""

    def answer(word):
        read, write = os.pipe()
        os.write(write, f"{word}\n".encode())
        os.close(write)
        keyboard = os.fdopen(read)
        keyboard.isatty = lambda: True
        monkeypatch.setattr("sys.stdin", keyboard)
        stack.callback(keyboard.close)

    with ExitStack() as stack:
        yield answer


def test_ones_own_sessions_are_listed_alone(service, capsys):
    mine, bobs = start(service), start(service, BOBS_KEY)
    code, out, err = call(capsys, "sessions")
    assert (code, err) == (0, "")
    heading, *rows = out.splitlines()
    assert heading == f"1 active session of {ME} in eu-west-1"
    assert rows[1].split()[:2] == [mine, "Connecting"]
    assert bobs not in out
    assert listed(capsys).keys() == {mine}


def test_all_owners_are_everybody(service, capsys):
    mine, bobs = start(service), start(service, BOBS_KEY, "INC-123")
    found = listed(capsys, "--all-owners")
    assert found.keys() == {mine, bobs}
    assert (found[bobs]["owner"], found[bobs]["reason"]) == (BOB, "INC-123")
    code, out, _ = call(capsys, "sessions", "--all-owners")
    assert (code, out.splitlines()[0]) == (
        0,
        "2 active sessions of everybody in eu-west-1",
    )


def test_nothing_is_a_headline_without_a_table(service, capsys):
    code, out, err = call(capsys, "sessions", "--region", "eu-west-1")
    assert (code, out, err) == (0, f"0 active sessions of {ME} in eu-west-1\n", "")


def test_the_table_fits_80_columns(service, capsys, monkeypatch):
    mine = start(service, reason="x" * 200)
    monkeypatch.setenv("COLUMNS", "80")
    code, out, _ = call(capsys, "sessions")
    rows = out.splitlines()[1:]
    assert code == 0
    assert max(map(len, rows)) <= 80
    assert mine in out


def test_past_sessions_are_listed_with_their_end(service, capsys):
    over, lives = start(service), start(service)
    service.close_session(over)
    (told,) = listed(capsys, "--history").values()
    assert (told["id"], told["state"]) == (over, "Terminated")
    assert told["ended"] >= told["started"]
    assert listed(capsys).keys() == {lives}


def test_options_may_stand_behind_names_and_a_limit_is_said(service, capsys):
    for _ in range(3):
        start(service)
    code, out, err = call(capsys, "sessions", "--limit", "2")
    assert (code, len(out.splitlines())) == (0, 4)
    assert err == "there are more: raise --limit\n"
    code, out, err = call(capsys, "sessions", "--json", "--limit=2")
    assert json.loads(out)["truncated"] is True


def test_a_tunnels_sessions_need_its_configuration(service, home, capsys):
    path = home / "config.toml"
    path.write_text(tunnel("db", port=1))
    one = start(service, reason=f"x [{'0' * 12}/db]")
    assert listed(capsys, "db", "-c", path) == {}
    assert listed(capsys, "db", "-c", path, "--all-owners").keys() == {one}
    assert listed(capsys, "-c", path).keys() == {one}
    code, _, err = call(capsys, "sessions", "dbx", "-c", path)
    assert (code, "did you mean db?" in err) == (2, True)


def test_a_tunnel_may_be_called_as_the_command_is(service, home, capsys):
    path = home / "config.toml"
    path.write_text(tunnel("terminate", port=1))
    one = start(service, reason=f"x [{'0' * 12}/terminate]")
    options = ("--all-owners", "-c", path, "terminate")
    assert listed(capsys, *options).keys() == {one}


def test_a_refusal_names_the_action(service, capsys):
    service.add_faults("describe-error=AccessDenied")
    code, out, err = call(capsys, "sessions")
    assert (code, out) == (4, "")
    assert "allow ssm:DescribeSessions on * (see https://" in err


def test_several_refusals_are_all_told(service, home, capsys):
    path = home / "config.toml"
    path.write_text(
        "\n".join(tunnel(n, port=1, profile=f"nobody-{n}") for n in ("a", "b"))
    )
    code, out, err = call(capsys, "sessions", "-c", path)
    assert (code, out) == (4, "")
    assert "(nobody-a)" in err
    assert "(nobody-b)" in err
    assert err.endswith("ssmtunneld: 2 of the identities could not be asked\n")


def test_without_sts_it_is_said_that_these_are_everybodys(service, capsys, monkeypatch):
    monkeypatch.delenv("AWS_ENDPOINT_URL_STS")
    start(service, BOBS_KEY)
    code, out, err = call(capsys, "sessions")
    assert (code, out.startswith("1 active session of everybody")) == (0, True)
    assert err == "STS does not tell who you are here: these are everybody's sessions\n"


def test_names_and_an_identity_contradict_each_other(home, capsys):
    code, _, err = call(capsys, "sessions", "db", "--profile", "x")
    assert (code, "exclude names of tunnels" in err) == (2, True)


def test_ones_own_session_is_terminated_without_a_question(service, capsys):
    one, other = start(service), start(service)
    found = call(capsys, "sessions", "terminate", one, one)
    assert found == (0, f"{one}: terminated\n", "")
    assert alive(service) == {other}


def test_what_is_not_there_is_not_terminated_nor_is_the_rest(service, capsys):
    one = start(service)
    code, out, err = call(capsys, "sessions", "terminate", one, "nobody\x1b")
    assert (code, out) == (1, "")
    assert (
        "there is no active session nobody\\u001b; list them: ssmtunneld sessions"
        in err
    )
    assert alive(service) == {one}


def test_somebody_elses_session_needs_yes_where_nobody_can_be_asked(service, capsys):
    bobs = start(service, BOBS_KEY, "INC-123")
    code, out, err = call(capsys, "sessions", "terminate", bobs)
    assert (code, out) == (2, "")
    assert f"{bobs} belongs to {BOB} (INC-123)" in err
    assert "there is no terminal to confirm on; pass --yes" in err
    assert alive(service) == {bobs}
    assert call(capsys, "sessions", "terminate", "--yes", bobs)[0] == 0
    assert alive(service) == set()


@pytest.mark.parametrize(("word", "code"), [("y", 0), ("n", 1), ("", 1)])
def test_at_a_terminal_one_is_asked(service, capsys, answer_with, word, code):
    bobs = start(service, BOBS_KEY)
    answer_with(word)
    found, _, err = call(capsys, "sessions", "terminate", bobs)
    assert found == code
    assert err.startswith(f"{bobs} belongs to {BOB}\n")
    assert "Terminate anyway? [y/N]" in err
    assert ("nothing was terminated" in err) is (code == 1)
    assert (bobs in alive(service)) is (code == 1)


def test_what_a_daemon_holds_needs_yes(service, home, operator, capsys):
    mine = start(service)
    held = tunnel_document("db", sessions=[{"session_id": mine}])
    file = home / "daemon.toml"
    file.write_text(tunnel("db", port=1))
    operator.documents = [document(held, config=str(file))]
    code, _, err = call(capsys, "sessions", "terminate", mine)
    assert code == 2
    assert f"{mine} is held by the running daemon, for tunnel db" in err
    assert listed(capsys)[mine]["held"] is True
    assert listed(capsys)[mine]["tunnel"] == "db"


def test_who_may_not_list_may_still_terminate(service, capsys):
    mine = start(service)
    service.add_faults("describe-error=AccessDenied")
    code, _, err = call(capsys, "sessions", "terminate", mine)
    assert (code, "its owner is unknown" in err) == (2, True)
    assert call(capsys, "sessions", "terminate", mine, "-y")[0] == 0
    assert alive(service) == set()


def test_without_sts_nobody_is_the_owner(service, capsys, monkeypatch):
    monkeypatch.delenv("AWS_ENDPOINT_URL_STS")
    mine = start(service)
    code, _, err = call(capsys, "sessions", "terminate", mine)
    assert (code, f"{mine} belongs to {ME}" in err) == (2, True)


def test_an_sts_that_does_not_answer_is_a_doubt_and_no_failure(
    service, capsys, monkeypatch
):
    mine = start(service)
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", "http://127.0.0.1:1")
    code, _, err = call(capsys, "sessions", "terminate", mine)
    assert (code, f"{mine} belongs to {ME}" in err) == (2, True)


def test_a_refusal_to_terminate_names_the_action(service, capsys):
    mine = start(service)
    service.add_faults("terminate-error=AccessDenied")
    code, _, err = call(capsys, "sessions", "terminate", mine)
    assert code == 4
    assert "allow ssm:TerminateSession on arn:aws:ssm:*:*:session/" in err


def test_each_of_several_sessions_is_tried(service, capsys):
    ids = [start(service) for _ in range(3)]
    service.add_faults("terminate-error=AccessDenied*2")
    code, out, err = call(capsys, "sessions", "terminate", *ids)
    assert (code, out) == (4, f"{ids[2]}: terminated\n")
    assert err.endswith("ssmtunneld: 2 of the sessions could not be terminated\n")


def test_a_session_that_ends_meanwhile_was_over(service, capsys):
    mine = start(service)
    service.add_faults("terminate-error=DoesNotExistException")
    found = call(capsys, "sessions", "terminate", mine)
    assert found == (0, f"{mine}: had already ended\n", "")


def test_an_identity_that_cannot_look_is_not_the_last_word(service, home, capsys):
    path = home / "config.toml"
    path.write_text(tunnel("a", port=1, profile="nobody") + "\n" + tunnel("b", port=1))
    mine = start(service)
    assert call(capsys, "sessions", "terminate", mine, "-c", path)[0] == 0
    code, _, err = call(capsys, "sessions", "terminate", "x", "-c", path)
    assert (code, "(nobody) could not be found" in err) == (4, True)


def test_the_owner_among_several_identities_ends_a_session(service, home, capsys):
    path = home / "config.toml"
    profile = f"aws_access_key_id={BOBS_KEY}\naws_secret_access_key=any\n"
    (home / "aws-config").write_text(f"[profile bob]\n{profile}")
    path.write_text(tunnel("a", port=1) + "\n" + tunnel("b", port=1, profile="bob"))
    bobs = start(service, BOBS_KEY)
    assert call(capsys, "sessions", "terminate", bobs, "-c", path)[0] == 0


def test_an_id_is_needed(home, capsys):
    code, _, err = call(capsys, "sessions", "terminate")
    assert (code, "missing argument" in err) == (2, True)


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("sessions ", ["db", "terminate"]),
        ("sessions t", ["terminate"]),
        ("sessions db ", []),
        ("sessions --h", ["--history", "--help"]),
        ("sessions terminate --y", ["--yes"]),
    ],
)
def test_shells_are_offered_tunnels_and_the_command(operator, words, offered):
    from click.shell_completion import ShellComplete

    from ssmtunneld.cli.main import cli

    *before, last = words.split(" ")
    items = ShellComplete(cli, {}, "ssmtunneld", "_X").get_completions(before, last)
    assert [item.value for item in items] == offered
