"""Changing a file: only what is meant changes, whatever the file looks like."""

import os
import stat
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssmtunneld.cli.exit_codes import CommandError
from ssmtunneld.cli.setup.config_file import (
    FileChange,
    defaults_in,
    names_in,
    place,
    ports_in,
    read,
    reload_daemon,
    render,
    save,
    save_files,
    sources,
    with_defaults,
    with_tunnels,
    without_tunnel,
    without_tunnels,
)
from ssmtunneld.errors import ConfigError

TARGET = "i-0123456789abcdef0"
NAMES = st.sampled_from(["web", "orders-db", "x_1", "7"])
words = st.text(st.sampled_from("ab c=[]#'\"."), max_size=12)
comments = st.builds(lambda text: f"# {text}", words)
fillers = st.lists(st.one_of(st.just(""), comments), max_size=3)
tails = st.one_of(st.just(""), st.builds(lambda c: f"   {c}", comments))


@st.composite
def keys(draw, port):
    """The lines of a tunnel: keys with comments between and behind them."""
    lines = [f"listen = {port}", f'target = "{TARGET}"', "port = 80"]
    optional = [
        'allow_users = [\n  "root",  # [tunnels.web]\n]',
        'reason = """\none\n"""'.replace("\n", "\\n").replace('"""', '"'),
        "parameters = {a = '#', b = [\"c\"]}",
        "'warm' = 2",
    ]
    lines += draw(st.lists(st.sampled_from(optional), unique=True, max_size=2))
    found = []
    for line in draw(st.permutations(lines)):
        found += [*draw(fillers), line + draw(tails)]
    return found


EMPTY = st.sampled_from(
    ["", "\n", "\r\n", "\n\n", "  ", "# only", "# only\n  ", "#\u2028[tunnels.new]"]
)


@st.composite
def files(draw):
    """A file with tunnels, and everything that people put around them."""
    names = draw(st.lists(NAMES, min_size=1, max_size=3, unique=True))
    parts = [draw(fillers)]
    tables = []
    for number, name in enumerate(names):
        spellings = [
            f"[tunnels.{name}]",
            f'[ tunnels . "{name}" ]',
            f"[tunnels.'{name}']",
        ]
        header = draw(st.sampled_from(spellings)) + draw(tails)
        tables.append([header, *draw(keys(7000 + number))])
    others = [["[daemon]", "log_level = 'info'"], ["[defaults]", "warm = 1"]]
    tables += draw(st.lists(st.sampled_from(others), unique_by=tuple, max_size=2))
    for table in draw(st.permutations(tables)):
        parts += [table, draw(fillers)]
    newline = draw(st.sampled_from(["\n", "\r\n"]))
    lines = [line for part in parts for line in part]
    text = "\n".join(lines) + draw(st.sampled_from(["", "\n", "\n\n"]))
    return text.replace("\n", newline), names


def comments_of(text):
    return [line.strip() for line in text.splitlines() if line.strip().startswith("#")]


@given(files())
def test_what_is_added_stands_behind_everything_else(case):
    text, _ = case
    changed = with_tunnels(text, {"new": {"listen": 1, "parameters": {"a": ["b"]}}})
    assert changed.startswith(text)
    assert names_in(changed) == [*names_in(text), "new"]
    assert ("\r\n" in text) is ("\r\n" in changed) or "\n" not in text


@given(st.one_of(files().map(lambda case: case[0]), EMPTY), st.data())
def test_what_is_added_and_removed_again_leaves_not_a_byte_behind(text, data):
    own = {"listen": 1, "target": TARGET, "port": 80}
    others = {**own, "parameters": {"a": ["b"]}}
    changed = text
    for name, settings in (("new", own), ("newer", others)):
        changed = with_tunnels(changed, {name: settings})
    if data.draw(st.booleans(), "at once"):
        changed = with_tunnels(text, {"new": own, "newer": others})
    for name in data.draw(st.permutations(["new", "newer"])):
        changed = without_tunnel(changed, name)
    assert changed == text


@given(files(), st.data())
def test_what_is_removed_takes_no_comment_of_others_along(case, data):
    text, names = case
    name = data.draw(st.sampled_from(names))
    changed = without_tunnel(text, name)
    wanted = tomllib.loads(text)
    del wanted["tunnels"][name]
    assert tomllib.loads(changed).get("tunnels", {}) == wanted["tunnels"]
    # What stands outside of its first and last line is still there, in its order.
    lines = text.splitlines()
    headers = [i for i, line in enumerate(lines) if _is_header(line)]
    (first,) = (i for i in headers if _names(lines[i], name))
    rest = range(first + 1, len(lines))
    end = next((i for i in rest if _is_header(lines[i])), len(lines))
    while end > first + 1 and lines[end - 1].strip()[:1] in {"", "#"}:
        end -= 1
    outside = [line for line in [*lines[:first], *lines[end:]] if line.strip()]
    assert [line for line in changed.splitlines() if line.strip()] == outside
    assert comments_of("\n".join(outside)) == comments_of(changed)


def _is_header(line):
    return line.lstrip().startswith("[")


def _names(line, name):
    header = line.partition("#")[0]
    return (
        "tunnels" in header
        and header.strip("[] ").split(".")[-1].strip(" '\"]") == name
    )


def test_a_tunnel_with_a_table_of_its_own_goes_as_a_whole():
    text = (
        "[tunnels.a]\nlisten = 1\n\n[tunnels.a.parameters]\nx = '1'\n\n"
        "# of b\n[tunnels.b]\nlisten = 2\n"
    )
    assert without_tunnel(text, "a") == "# of b\n[tunnels.b]\nlisten = 2\n"


@pytest.mark.parametrize(
    "text",
    [
        "tunnels = {a = {listen = 1}, b = {listen = 2}}\n",
        "[tunnels]\na.listen = 1\nb.listen = 2\n",
    ],
)
def test_a_form_that_cannot_be_changed_line_by_line_is_left_to_a_person(text):
    with pytest.raises(CommandError, match="in a way that only you can change"):
        without_tunnel(text, "a")


def test_text_that_only_looks_like_a_table_is_none():
    text = '[tunnels.a]\nreason = """\n[tunnels.b]\n"""\n[tunnels.b]\nlisten = 2\n'
    with pytest.raises(CommandError, match="only you can change"):
        without_tunnel(text, "b")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: with_tunnels(text, {"a": {}}), "called a already"),
        (lambda text: without_tunnel(text, "c"), "no tunnel called c"),
        (lambda _: with_tunnels("= 1", {"a": {}}), "is not TOML"),
        (lambda _: without_tunnel("", "a"), "no tunnel called a"),
        (lambda _: with_tunnels("tunnels = {b = {}}", {"a": {}}), "only you can"),
    ],
)
def test_what_cannot_be_done_is_said(change, message):
    with pytest.raises(CommandError, match=message):
        change("[tunnels.a]\nlisten = 1\n[tunnels.b]\n")


def test_a_file_is_replaced_with_its_permissions_and_through_its_link(tmp_path):
    real, path = tmp_path / "real.toml", tmp_path / "config.toml"
    text = render({"tunnels.a": {"listen": 1, "target": TARGET, "port": 1}})
    real.write_text(text)
    real.chmod(0o640)
    path.symlink_to(real)
    after = with_tunnels(text, {"b": {"listen": 2, "target": TARGET, "port": 2}})
    save(path, text, after)
    assert real.read_text() == after
    assert path.is_symlink()
    assert stat.S_IMODE(real.stat().st_mode) == 0o640


def test_a_new_file_is_its_owners(tmp_path):
    path = tmp_path / "new" / "config.toml"
    assert read(path) is None
    text = render({"tunnels.a": {"listen": 1, "target": TARGET, "port": 1}})
    save(path, None, text)
    assert (read(path), stat.S_IMODE(path.stat().st_mode)) == (text, 0o600)


def test_what_would_be_wrong_is_never_written(tmp_path):
    path = tmp_path / "config.toml"
    path.write_text("old")
    with pytest.raises(ConfigError, match=r"tunnels\.a"):
        save(path, "old", "[tunnels.a]\n")
    assert path.read_text() == "old"


def test_what_cannot_be_read_is_said(tmp_path):
    (tmp_path / "x").write_bytes(b"\xff")
    with pytest.raises(ConfigError, match="is not UTF-8"):
        read(tmp_path / "x")
    with pytest.raises(ConfigError, match="cannot be read"):
        read(tmp_path)


def test_neither_pipes_nor_devices_are_read_or_replaced(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path(os.devnull), Path("/dev/zero")):
        with pytest.raises(ConfigError, match="is not a regular file"):
            read(path)


def test_the_place_is_the_users_where_nothing_exists(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.delenv("SSMTUNNELD_CONFIG", raising=False)
    if not os.path.exists("/etc/ssmtunneld/config.toml"):  # noqa: PTH110 - one machine
        assert place(None) == tmp_path / "ssmtunneld" / "config.toml"
    assert place(tmp_path / "x") == tmp_path / "x"


def test_without_a_daemon_there_is_nothing_to_reload(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.delenv("SSMTUNNELD_CONFIG", raising=False)
    assert reload_daemon(tmp_path / "x.toml") == (
        f"no daemon runs it: ssmtunneld run -c {tmp_path}/x.toml"
    )


def test_what_tunnels_share_is_said_once():
    same = {"profile": "p", "target": TARGET}
    tables = with_defaults({"a": {**same, "port": 1}, "b": {**same, "port": 2}})
    assert tables == {
        "defaults": same,
        "tunnels.a": {"port": 1},
        "tunnels.b": {"port": 2},
    }
    assert with_defaults({"a": same}) == {"tunnels.a": same}
    assert with_defaults({"a": same, "b": {}}) == {"tunnels.a": same, "tunnels.b": {}}


def test_what_a_file_says_is_found():
    text = (
        "[defaults]\nwarm = 2\n[tunnels.a]\nlisten = [1, '[::1]:2', 'unix:/x', '?']\n"
    )
    assert ports_in(text) == [1, 2]
    assert defaults_in(text) == {"warm": 2}
    assert defaults_in("") == {}
    assert names_in("tunnels = 1") == []


def test_files_are_replaced_together_or_not_at_all(tmp_path):
    main, other = tmp_path / "c.toml", tmp_path / "other.toml"
    texts = {
        main: f'include = "other.toml"\n[defaults]\ntarget = "{TARGET}"\n',
        other: "[tunnels.a]\nlisten = 1\nport = 1\n",
    }
    for path, text in texts.items():
        path.write_text(text)
    wrong = FileChange(texts[other], texts[other].replace("1\nport", "'x'\nport"))
    with pytest.raises(ConfigError, match=r"other\.toml:2: tunnels\.a\.listen"):
        save_files(
            main,
            {main: FileChange(texts[main], texts[main] + "warm = 2\n"), other: wrong},
        )
    assert {path: path.read_text() for path in texts} == texts
    right = FileChange(texts[other], texts[other] + "warm = 2\n")
    save_files(main, {other: right})
    assert other.read_text() == right.after


def test_the_last_tunnel_of_a_name_s_own_file_is_what_goes(tmp_path):
    main, other = tmp_path / "c.toml", tmp_path / "other.toml"
    other.write_text("[tunnels.b]\nlisten = 1\n")
    text = 'include = "other.toml"\n[tunnels.a]\nlisten = 2\n'
    found = without_tunnels(sources(main, text), ["b", "a", "b"])
    assert found == {
        other: FileChange("[tunnels.b]\nlisten = 1\n", "", ("b",)),
        main: FileChange(text, 'include = "other.toml"\n', ("a",)),
    }
    with pytest.raises(CommandError) as caught:
        without_tunnels(sources(main, text), ["a", "x"])
    assert caught.value.advice == "the files have a, b"
