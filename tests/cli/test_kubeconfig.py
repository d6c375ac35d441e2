"""The user's kubeconfig: our entries in it, and nothing else of theirs touched."""

import os
import re
import stat
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from hypothesis import assume, given
from hypothesis import strategies as st

from ssmtunneld.cli.exit_codes import CommandError
from ssmtunneld.cli.kubeconfig import ClusterAccess, merge, place, render, write

HOST = "0a1b2c.gr7.eu-west-1.eks.amazonaws.com"
ACCESS = ClusterAccess(
    context="prod",
    tunnel="eks",
    server="https://127.0.0.1:8443",
    host=HOST,
    authority="LS0tLS1CRUdJTg==",
    arguments=("--region", "eu-west-1", "eks", "get-token", "--profile", "my prod"),
)
# As a person keeps it: comments, flow style inside of entries, an empty section, and
# the indentation of nobody's program.
THEIRS = """\
# my clusters
apiVersion: v1
kind: Config
preferences: {colors: true}
clusters:   # all of them
  # the old one
  - name: "old"   # since 2019
    cluster: {server: "https://10.0.0.1"}

  # the one at home
  - cluster:
      server: https://127.0.0.1:6443
      certificate-authority-data: |
        LS0t
        # not a comment
    name: kind-home
contexts: []  # none yet
current-context: ""
users:
- name: 'o''neill'
  user:
    token: their-token
# the end
"""


def added(text, **changes):
    return merge(text, replace(ACCESS, **changes), "config")


def entries(text, name="prod"):
    """Return what a kubeconfig has by a name, of each kind."""
    whole = yaml.safe_load(text)
    return {
        section: [each for each in whole[section] if each["name"] == name]
        for section in ("clusters", "contexts", "users")
    }


def without(text, name="prod"):
    whole = yaml.safe_load(text)
    for section in ("clusters", "contexts", "users"):
        kept = [each for each in whole.get(section) or [] if each["name"] != name]
        whole[section] = kept
    return whole


def test_a_file_of_its_own_is_what_kubectl_reads():
    mark = [{"name": "ssmtunneld", "extension": {"tunnel": "eks"}}]
    command = {
        "apiVersion": "client.authentication.k8s.io/v1beta1",
        "command": "aws",
        "args": list(ACCESS.arguments),
        "installHint": "kubectl asks the AWS CLI for tokens: https://aws.amazon.com/cli/",
    }
    cluster = {
        "server": "https://127.0.0.1:8443",
        "tls-server-name": HOST,
        "certificate-authority-data": "LS0tLS1CRUdJTg==",
        "extensions": mark,
    }
    pair = {"cluster": "prod", "user": "prod", "extensions": mark}
    assert yaml.safe_load(render(ACCESS)) == {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "prod", "cluster": cluster}],
        "contexts": [{"name": "prod", "context": pair}],
        "users": [{"name": "prod", "user": {"exec": command, "extensions": mark}}],
        "current-context": "prod",
    }


def test_the_documentation_shows_what_is_written():
    page = Path(__file__).parents[2] / "docs" / "tasks" / "clusters.md"
    _, _, rest = page.read_text("utf-8").partition("```yaml\n")
    words = "--region eu-west-1 eks get-token --cluster-name prod --output json"
    access = replace(
        ACCESS,
        tunnel="prod",
        authority="LS0tLS1CRUdJTi...",
        arguments=(*words.split(), "--profile", "prod"),
    )
    assert rest.partition("```\n")[0] == render(access)


@pytest.mark.parametrize(
    "name",
    [
        *("prod", "true", "no", "null", "1e3", "-", "a: b", "a #b", 'q"q', "ü", "0x1f"),
        *("~", "@x", "\\", "\N{ROCKET} prod"),
    ],
)
def test_any_name_is_read_back_as_it_is(name):
    text = render(replace(ACCESS, context=name))
    assert yaml.safe_load(text)["current-context"] == name
    again = merge(text, replace(ACCESS, context=name), "config")
    assert again == text
    assert merge(again, ACCESS, "config").startswith("apiVersion")


@pytest.mark.parametrize(
    "profile",
    ["\N{ROCKET}", "a\x7fb", "a\x85b", "a\u2028b", "\ufeffa", "\U000e0001", "a\tb"],
)
def test_no_value_makes_the_file_one_that_kubectl_cannot_read(profile):
    text = render(replace(ACCESS, arguments=("--profile", profile)))
    (user,) = yaml.safe_load(text)["users"]
    assert user["user"]["exec"]["args"] == ["--profile", profile]
    # Go's reader takes no pair of surrogates for a character, as Python's does not.
    assert not re.search(r"\\u[dD][89a-fA-F]", text)


def test_a_proxy_is_named_where_the_tunnel_is_one():
    text = render(replace(ACCESS, proxy="socks5://127.0.0.1:1080"))
    (found,) = entries(text)["clusters"]
    assert found["cluster"]["proxy-url"] == "socks5://127.0.0.1:1080"


def test_what_is_there_stays_with_its_comments():
    text = added(THEIRS)
    assert without(text) == {**yaml.safe_load(THEIRS), "contexts": []}
    assert entries(text) == entries(render(ACCESS))
    theirs = [
        line for line in THEIRS.splitlines() if line != "contexts: []  # none yet"
    ]
    lines = iter(text.splitlines())
    assert all(line in lines for line in theirs)
    assert "contexts:  # none yet\n" in text
    assert "\n  - name: prod\n    cluster:\n" in text


def test_a_text_of_several_lines_is_not_cut_by_a_line_that_looks_like_a_comment():
    theirs = "users:\n- name: me\n  user:\n    exec:\n      command: |\n"
    theirs += "        ask\n        # for a token\n\n        # or two\n# the end\n"
    text = added(theirs)
    assert without(text)["users"] == yaml.safe_load(theirs)["users"]
    assert text.index("# or two") < text.index("- name: prod") < text.index("# the end")


def test_doing_it_again_changes_nothing():
    text = added(THEIRS)
    assert added(text) == text


def test_entries_of_ours_are_replaced_where_they_stand():
    text = added(added(THEIRS), context="later")
    changed = added(text, server="https://127.0.0.1:9000")
    assert changed == text.replace("8443", "9000", 1)


def test_entries_that_kubectl_has_written_anew_are_still_ours():
    whole = yaml.safe_load(render(ACCESS))
    whole["contexts"][0]["context"]["namespace"] = "orders"
    text = yaml.safe_dump(whole, sort_keys=True)
    changed = added(text, server="https://127.0.0.1:9000")
    (cluster,), (context,), (user,) = entries(changed).values()
    assert cluster["cluster"]["server"] == "https://127.0.0.1:9000"
    assert context["context"]["namespace"] == "orders"
    assert user == whole["users"][0]
    assert added(changed, server="https://127.0.0.1:9000") == changed


@pytest.mark.parametrize("section", ["clusters", "contexts", "users"])
def test_an_entry_of_somebody_else_is_replaced_only_by_force(section):
    whole = yaml.safe_load(render(ACCESS))
    kind = section.removesuffix("s")
    whole[section][0][kind] = {"namespace": "x", "ssmtunneld": "y"}
    text = yaml.safe_dump(whole)
    with pytest.raises(CommandError) as caught:
        added(text)
    said = f"config has prod among its {section} already, not from ssmtunneld"
    assert str(caught.value) == said
    assert "--context" in caught.value.advice
    assert "--force" in caught.value.advice
    changed = merge(text, ACCESS, "config", force=True)
    (found,) = entries(changed)[section]
    assert "extensions" in found[kind]


def test_a_cluster_that_is_called_like_our_mark_is_not_ours():
    text = "clusters:\n- name: ssmtunneld\n  cluster:\n    server: https://x\n"
    with pytest.raises(CommandError, match="not from ssmtunneld"):
        added(text, context="ssmtunneld")


@pytest.mark.parametrize("text", ["", "# only a comment\n", "---\n", "\n\n"])
def test_an_empty_file_becomes_a_whole_one(text):
    changed = added(text)
    assert changed.startswith(text)
    assert yaml.safe_load(changed) == yaml.safe_load(render(ACCESS))


def test_missing_sections_are_added_and_the_current_context_is_theirs():
    changed = added("kind: Config\ncurrent-context: other")
    assert entries(changed) == entries(render(ACCESS))
    assert yaml.safe_load(changed)["current-context"] == "other"


TEXTS = st.text(st.characters(codec="utf-8"), min_size=1, max_size=8)
ENTRIES = st.lists(
    st.tuples(TEXTS, st.recursive(TEXTS, lambda inner: st.lists(inner, max_size=2))),
    max_size=3,
    unique_by=lambda entry: entry[0],
)


@given(ENTRIES, ENTRIES, st.sampled_from(["", "  ", "    "]))
def test_whatever_a_program_has_written_is_kept_or_refused(clusters, users, indent):
    whole = {
        "apiVersion": "v1",
        "clusters": [{"name": n, "cluster": {"x": value}} for n, value in clusters],
        "users": [{"user": {"y": value}, "name": name} for name, value in users],
    }
    text = yaml.safe_dump(whole, allow_unicode=True, sort_keys=False)
    text = re.sub("^(?=[- ])", indent, text, flags=re.MULTILINE)
    assume(yaml.safe_load(text) == whole)
    changed, said = None, ""
    try:
        changed = added(text)
    except CommandError as error:
        said = str(error)
    if changed is None:
        assert "left alone" in said or "not from ssmtunneld" in said
        return
    assert entries(changed) == entries(render(ACCESS))
    assert without(changed) == {**whole, "contexts": []}


def test_line_ends_stay_as_they_are():
    changed = added(THEIRS.replace("\n", "\r\n"))
    assert changed == added(THEIRS).replace("\n", "\r\n")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('{"clusters": []}', "line 1: it is not written one key in a line"),
        ("kind: {\n}\n", "line 2: it is not written one key"),
        ("clusters: []\nclusters: []\n", "line 2: it is not written one key"),
        ("- a\n", "line 1: no key comes before"),
        ("kind: a\n---\nkind: b\n", "line 2: it is not written one key"),
        ("kind: a\n\tb\n", "line 2: it is not written one key"),
        ("kind: a\r\nkind: b\n", "line ends are of several kinds"),
        ("clusters: [a]\n", "line 1: clusters is not written as a list"),
        ("clusters: &a\n- name: x\n", "line 1: clusters is not written as a list"),
        ("clusters:\n  a: b\n", "line 2: it is not an item of a list"),
        ("clusters:\n  - name: a\n - name: b\n", "line 3: it is not an item"),
        ("clusters:\n- {name: a}\n", "line 2: it has no name that can be read"),
        ("clusters:\n-\n", "line 2: it has no name"),
        ("clusters:\n- name: *a\n", "line 2: this value cannot be read"),
        ('clusters:\n- name: "a\n', "line 2: this value cannot be read"),
    ],
)
def test_a_style_that_is_not_understood_is_left_alone(text, why):
    with pytest.raises(CommandError) as caught:
        added(text)
    assert why in str(caught.value)
    assert "so the file is left alone" in str(caught.value)
    assert "KUBECONFIG" in caught.value.advice


def test_a_name_that_is_there_twice_is_left_alone():
    text = "clusters:\n-\n  name: prod\n- cluster: {}\n  name: prod\n"
    with pytest.raises(CommandError, match="clusters has prod twice"):
        added(text)


def test_the_place_is_the_first_of_kubeconfig_or_the_usual_one(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert place({}) == tmp_path / ".kube" / "config"
    assert place({"KUBECONFIG": ""}) == tmp_path / ".kube" / "config"
    named = os.pathsep.join(["", "/a/b", "/c"])
    assert str(place({"KUBECONFIG": named})) == "/a/b"


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def test_the_file_is_made_for_the_user_alone(tmp_path):
    path = tmp_path / ".kube" / "config"
    assert write(path, ACCESS)
    assert path.read_text() == render(ACCESS)
    assert (mode(path.parent), mode(path)) == (0o700, 0o600)
    assert not write(path, ACCESS)
    assert list(path.parent.iterdir()) == [path]


def test_a_file_that_others_could_read_is_theirs_no_more_and_a_link_stays(tmp_path):
    real, link = tmp_path / "dotfiles", tmp_path / "config"
    real.write_text(THEIRS)
    real.chmod(0o644)
    link.symlink_to(real)
    assert write(link, ACCESS)
    assert link.is_symlink()
    assert real.read_text() == added(THEIRS)
    assert mode(real) == 0o600


def test_what_is_refused_leaves_file_and_lock_as_they_were(tmp_path):
    path = tmp_path / "config"
    path.write_text("clusters: [a]\n")
    with pytest.raises(CommandError, match=f"{path}, line 1"):
        write(path, ACCESS)
    assert path.read_text() == "clusters: [a]\n"
    assert list(tmp_path.iterdir()) == [path]


def test_while_kubectl_writes_nobody_else_does(tmp_path):
    path, lock = tmp_path / "config", tmp_path / "config.lock"
    lock.touch()
    with pytest.raises(CommandError) as caught:
        write(path, ACCESS)
    assert str(caught.value) == f"{path} is locked by another program"
    assert str(lock) in caught.value.advice
    assert lock.exists()
    assert not path.exists()


def test_a_link_that_leads_nowhere_and_a_folder_that_is_none_are_told(tmp_path):
    link = tmp_path / "config"
    link.symlink_to(tmp_path / "away")
    with pytest.raises(CommandError, match="leads nowhere"):
        write(link, ACCESS)
    with pytest.raises(CommandError, match="cannot write"):
        write(link / "config", ACCESS)
