"""kubectl in the user's own context of the cluster; a real one is an interop test."""

import json

import pytest

from ssmtunneld.cli.clients.kubectl import prepare
from ssmtunneld.cli.exit_codes import CommandError
from tests.cli.clients.conftest import task

EKS = "abc.gr7.eu-west-1.eks.amazonaws.com"


def view(current="", **servers):
    """Return what ``kubectl config view`` prints: a context for each server."""
    clusters = [
        {
            "name": f"c-{name}",
            "cluster": server if isinstance(server, dict) else {"server": server},
        }
        for name, server in servers.items()
    ]
    contexts = [
        {"name": name, "context": {"cluster": f"c-{name}", "user": "u"}}
        for name in servers
    ]
    return json.dumps(
        {"clusters": clusters, "contexts": contexts, "current-context": current}
    )


@pytest.fixture
def words(tmp_path):
    """Return a function that gives kubectl's words, but the first."""

    def run(text, *arguments, host=EKS, **settings):
        program = tmp_path / "kubectl"
        (tmp_path / "view").write_text(text)
        program.write_text(
            f'#!/bin/sh\necho "$@" >{tmp_path}/asked\ncat {tmp_path}/view'
        )
        program.chmod(0o700)
        settings = {**({} if host is None else {"host": host}), "port": 443, **settings}
        ours = prepare(task("kubernetes", str(program), *arguments, **settings))
        return ours.words[1:]

    run.asked = tmp_path / "asked"
    return run


TO = "--server=https://127.0.1.2:15432"


def test_the_context_of_the_cluster_is_used_with_its_name(words):
    text = view("other", other="https://x:443", prod=f"https://{EKS.upper()}")
    found = words(text, "get", "pods")
    name = f"--tls-server-name={EKS}"
    assert found == [TO, "--context=prod", name, "get", "pods"]


def test_without_arguments_the_cluster_is_asked_for_its_version(words):
    assert words(view(prod=f"https://{EKS}"))[-1] == "version"


def test_a_cluster_that_has_a_name_keeps_it(words):
    """kubectl itself forgets it, because it is told another server."""
    cluster = {"server": f"https://{EKS}:443", "tls-server-name": "k.x"}
    named = "--tls-server-name=k.x"
    assert words(view(prod=cluster), "x") == [TO, "--context=prod", named, "x"]


def test_a_cluster_on_the_target_calls_itself_localhost(words):
    text = view(k3s="https://127.0.0.1:6443", other="https://127.0.0.1:7443")
    assert words(text, "x", host=None, port=6443) == [TO, "--context=k3s", "x"]


def test_of_several_the_current_one_is_taken(words):
    servers = {"a": f"https://{EKS}", "b": f"https://{EKS}"}
    assert "--context=b" in words(view("b", **servers))
    with pytest.raises(
        CommandError, match=rf"lead to https://{EKS}:443: a, b"
    ) as caught:
        words(view("c", **servers))
    assert "-- --context a get nodes" in caught.value.advice


MARK = [{"name": "ssmtunneld", "extension": {"tunnel": "db"}}]
OURS = {"server": "https://127.0.0.1:1", "tls-server-name": EKS, "extensions": MARK}


def test_the_context_that_was_written_for_the_tunnel_is_ours(words):
    own = {"host": None, "cluster": "prod"}
    found = words(view(mine=OURS, other="https://x"), "x", **own)
    assert found == [TO, "--context=mine", f"--tls-server-name={EKS}", "x"]
    # Of several it is meant, even where nobody has made one the current one.
    assert "--context=mine" in words(view(a=f"https://{EKS}", mine=OURS))
    foreign = [{"name": "ssmtunneld", "extension": {"tunnel": "another"}}]
    with pytest.raises(CommandError, match="leads to cluster prod") as caught:
        words(view(mine={**OURS, "extensions": foreign}), **own)
    assert caught.value.advice == "run: ssmtunneld kubeconfig db --write"


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("arn:aws:eks:eu-west-1:111122223333:cluster/prod", True),
        ("prod.eu-west-1.eksctl.io", True),
        ("arn:aws:eks:eu-west-1:111122223333:cluster/prod2", False),
        ("prod", False),
    ],
)
def test_a_cluster_is_known_by_the_name_that_other_programs_give_it(words, name, found):
    text = view(prod=f"https://{EKS.upper()}").replace('"c-prod"', json.dumps(name))
    own = {"host": None, "cluster": "prod"}
    if found:
        named = f"--tls-server-name={EKS}"
        assert words(text, "x", **own) == [TO, "--context=prod", named, "x"]
    else:
        with pytest.raises(CommandError, match="no context"):
            words(text, "x", **own)


def test_a_context_that_is_named_is_not_looked_for(words):
    found = words(view(), "--context", "mine", "get", "pods")
    name = f"--tls-server-name={EKS}"
    assert found == [TO, name, "--context", "mine", "get", "pods"]


def test_another_configuration_is_asked_for_its_contexts(words):
    words(view(prod=f"https://{EKS}"), "--kubeconfig", "/a b", "get", "pods")
    expected = "config view -o json --kubeconfig=/a b\n"
    assert words.asked.read_text() == expected


def test_what_follows_two_dashes_is_for_a_program_in_the_cluster(words):
    found = words(view(prod=f"https://{EKS}"), "exec", "p", "--", "--context", "x")
    assert "--context=prod" in found


def test_without_a_context_it_is_said_how_to_get_one(words):
    with pytest.raises(CommandError, match="no context of kubectl") as caught:
        words(view(other="https://x", odd="https://[::1", none={}))
    assert "aws eks update-kubeconfig" in caught.value.advice


@pytest.mark.parametrize("text", ["", "[]", '{"clusters": [{}], "contexts": []}'])
def test_an_answer_that_makes_no_sense_is_an_error(words, text):
    with pytest.raises(CommandError, match="configuration cannot be read"):
        words(text)


def test_a_configuration_without_anything_has_no_contexts(words):
    empty = '{"clusters": null, "contexts": null}'
    with pytest.raises(CommandError, match="no context of kubectl"):
        words(empty)
