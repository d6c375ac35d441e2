"""``ssmtunneld add``, with and without a daemon."""

import pytest

from ssmtunneld.config import load_config
from tests.cli.household import Household, call, serving

TARGET = "i-0123456789abcdef0"
TEXT = (
    f'# mine\n[defaults]\ntarget = "{TARGET}"\n\n[tunnels.old]\nlisten = 1\nport = 1\n'
)
PRIVILEGED = "web listens on port 10080, because 80 needs a privilege\n"


@pytest.fixture
def path(home):
    path = home / "config.toml"
    path.write_text(TEXT)
    return path


def settings(path, name):
    (found,) = (t for t in load_config(path, {}).tunnels if t.name == name)
    return found


def test_a_tunnel_is_added_and_the_rest_stays(path, capsys):
    code, out, err = call(capsys, "add", "web", "80", "-c", path)
    assert (code, out) == (0, f"{path}: added web\n")
    assert err == f"{PRIVILEGED}no daemon runs it: ssmtunneld run -c {path}\n"
    assert path.read_text() == f"{TEXT}\n[tunnels.web]\nlisten = 10080\nport = 80\n"


def test_every_setting_can_be_given(path, capsys):
    words = (
        "orders",
        "db.internal:5432",
        "--target",
        "name:web",
        "--region",
        "eu-west-1",
    )
    more = ("--listen", "15432", "--listen", "unix:/tmp/x", "--profile", "prod")
    sets = ("--set", "warm=2", "--set", "linger=5s", "--set", 'allow_users=["root"]')
    assert call(capsys, "add", *words, *more, *sets, "-c", path)[0] == 0
    found = settings(path, "orders")
    assert [str(a) for a in found.listen] == ["localhost:15432", "unix:/tmp/x"]
    assert (found.host, found.port) == ("db.internal", 5432)
    assert (found.warm, found.linger, found.allow_users) == (2, 5, (0,))
    assert (found.profile, found.region) == ("prod", "eu-west-1")


def test_a_dynamic_tunnel_is_one_of_settings(path, capsys):
    sets = ("--set", "mode=socks5", "--set", 'destinations=["*:443"]')
    words = ("add", "browse", "--listen", "1080", *sets, "-c", path)
    assert call(capsys, *words)[0] == 0
    assert settings(path, "browse").is_dynamic


def test_a_file_is_made_where_there_is_none(home, capsys):
    path = home / "new.toml"
    words = ("add", "web", "8080", "--target", TARGET, "-c", path)
    assert call(capsys, *words)[0] == 0
    assert settings(path, "web").port == 8080


def test_a_port_that_another_tunnel_has_is_not_taken_and_that_is_said(path, capsys):
    other = path.parent / "other.toml"
    other.write_text("[tunnels.theirs]\nlisten = 5433\nport = 2\n")
    path.write_text('include = "other.toml"\n' + TEXT)
    for name, listen in (("a", 5432), ("b", 5434), ("c", 5435)):
        words = ("add", name, f"{name}.internal:5432", "-c", path)
        code, out, err = call(capsys, *words)
        assert (code, out) == (0, f"{path}: added {name}\n")
        assert [a.port for a in settings(path, name).listen] == [listen]
        told = f"{name} listens on port {listen}, because 5432 is taken\n"
        assert err.removesuffix(f"no daemon runs it: ssmtunneld run -c {path}\n") == (
            "" if listen == 5432 else told
        )


def test_a_running_daemon_takes_it_over(path, capsys):
    household = Household()
    household.documents[0]["config"] = str(path)
    with serving(household, path):
        code, _, err = call(capsys, "add", "web", "80", "-c", path)
    assert (code, err) == (0, f"{PRIVILEGED}the running daemon has reloaded it\n")
    assert household.asked == ["reload"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("old", "80"), "there is a tunnel called old already"),
        (("Bad!", "80"), "is not a tunnel's name"),
        (("web", "80", "--listen", "1"), "clashes with"),
        (("web", "80", "--target", "x"), "is not a target"),
        (("web", "80", "--set", "warm"), "write KEY=VALUE"),
        (("web", "80", "--set", "wram=1"), "did you mean warm?"),
        (("web", "nonsense"), "is not a destination"),
        (("web",), "where does it listen?"),
    ],
)
def test_what_would_be_wrong_is_refused_and_changes_nothing(
    path, words, message, capsys
):
    code, _, err = call(capsys, "add", *words, "-c", path)
    assert (code, message in err) == (2, True), err
    assert path.read_text() == TEXT


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("web", "80"), "web: target: is required; pass --target"),
        (
            ("web", "--listen", "5", "--target", TARGET),
            "web: port: is required by AWS-StartPortForwardingSession; write it, or "
            "HOST:PORT, behind the name",
        ),
        (
            ("My DB", "80", "--target", TARGET),
            "'My DB' is not a tunnel's name: up to 63 of a-z, 0-9, - and _, starting "
            "with a letter or digit",
        ),
        (
            ("web", "80", "--target", TARGET, "--set", "warm=abc"),
            "web: warm: should be a whole number",
        ),
    ],
)
@pytest.mark.parametrize("text", ["", "[tunnels.old]\n", "# mine\n[daemon]"])
def test_a_problem_of_a_tunnel_that_is_not_written_has_no_line(
    home, capsys, text, words, message
):
    path = home / "config.toml"
    old = f'listen = 1\nport = 1\ntarget = "{TARGET}"\n'
    path.write_text(text and (text + (old if "old" in text else "")))
    code, _, err = call(capsys, "add", *words, "-c", path)
    assert (code, err) == (2, f"ssmtunneld: {message}\n")


def test_problems_of_the_rest_of_the_file_keep_their_lines(path, capsys):
    path.write_text(f"{TEXT}wram = 1\n")
    code, _, err = call(capsys, "add", "web", "80", "--set", "warm=abc", "-c", path)
    assert (code, err.splitlines()) == (
        2,
        [
            f"ssmtunneld: {path}:8: tunnels.old.wram: unknown key (did you mean warm?)",
            "ssmtunneld: web: warm: should be a whole number",
        ],
    )


def test_the_main_file_is_changed_and_names_of_others_are_taken(path, capsys):
    other = path.parent / "other.toml"
    other.write_text("[tunnels.theirs]\nlisten = 2\nport = 2\n")
    path.write_text('include = "other.toml"\n' + TEXT)
    assert call(capsys, "add", "web", "80", "-c", path)[0] == 0
    assert path.read_text().endswith("[tunnels.web]\nlisten = 10080\nport = 80\n")
    before = path.read_text()
    code, _, err = call(capsys, "add", "theirs", "81", "-c", path)
    assert (code, path.read_text()) == (2, before)
    assert err == (
        f"ssmtunneld: there is a tunnel called theirs already, in {other}; "
        "choose another name, or remove it first\n"
    )
    # An address of another file is taken as well.
    code, _, err = call(capsys, "add", "more", "9", "--listen", "2", "-c", path)
    assert (code, path.read_text()) == (2, before)
    assert f"{other}:2: tunnels.theirs.listen: localhost:2 clashes with" in err
