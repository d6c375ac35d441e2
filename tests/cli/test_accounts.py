"""The same question in several accounts and regions."""

import click
import pytest
from click.testing import CliRunner

from ssmtunneld.cli.accounts import (
    ask_everywhere,
    matches,
    places_options,
    report_failures,
)
from ssmtunneld.errors import AccessDenied, AwsError
from tests.integration.world import use_loopback_aws


@pytest.fixture(autouse=True)
def _aws(monkeypatch, tmp_path):
    use_loopback_aws(monkeypatch, tmp_path)
    (tmp_path / "aws-config").write_text("[profile a]\n[profile b]\n")


def where(account):
    account.keys("Anything")
    return account.profile, account.place.region


def test_every_profile_is_asked_in_every_region():
    told, failures = ask_everywhere(["a", "b"], ["eu-west-1", "us-east-1"], None, where)
    answers = [(each.profile, each.region) for each in told]
    assert answers == [
        *(("a", "eu-west-1"), ("a", "us-east-1")),
        *(("b", "eu-west-1"), ("b", "us-east-1")),
    ]
    assert [each.answer for each in told] == answers
    assert failures == []


def test_without_any_it_is_the_environments_place():
    told, _ = ask_everywhere([], [], None, where)
    assert [(each.profile, each.region) for each in told] == [("", "eu-west-1")]


def test_what_one_place_denies_does_not_matter_to_others():
    def deny_one(account):
        if account.profile == "a":
            raise AccessDenied("Look", "Denied", "not you")
        return where(account)

    told, failures = ask_everywhere(["a", "b"], [], None, deny_one)
    assert [each.profile for each in told] == ["b"]
    assert [str(error) for error in failures] == ["Look failed: Denied: not you"]


def test_a_profile_that_does_not_exist_is_a_failure():
    _, (failure,) = ask_everywhere(["nobody"], [], None, where)
    assert "nobody" in str(failure)


def test_without_any_region_the_option_for_it_is_named(monkeypatch):
    monkeypatch.delenv("AWS_REGION", raising=False)
    monkeypatch.delenv("AWS_DEFAULT_REGION", raising=False)
    _, (failure,) = ask_everywhere([], [], None, where)
    advice = "pass --region, such as us-east-1, or export AWS_REGION"
    assert (failure.code, failure.advice) == ("NoRegionError", advice)


def test_a_single_failure_without_any_answer_is_the_commands_end(capsys):
    error = AwsError("Look", "Denied", "not you", "ask somebody")
    with pytest.raises(AwsError):
        report_failures([error], alone=True)
    report_failures([error, error], alone=True)
    report_failures([error], alone=False)
    line = "ssmtunneld: Look failed: Denied: not you; ask somebody\n"
    assert capsys.readouterr() == ("", line * 3)


def test_the_options_repeat():
    @click.command()
    @places_options
    def command(profiles, regions, endpoint_url):
        click.echo(repr((profiles, regions, endpoint_url)))

    words = [
        "--profile",
        "a",
        "--profile",
        "b",
        "--region",
        "c",
        "--endpoint-url",
        "http://d",
    ]
    output = CliRunner().invoke(command, words).output
    assert output == "(('a', 'b'), ('c',), 'http://d')\n"


@pytest.mark.parametrize(
    ("words", "expected"),
    [([], True), (["WEB"], True), (["web", "10.0"], True), (["web", "db"], False)],
)
def test_every_word_must_be_found(words, expected):
    assert matches(words, "web-1", "10.0.0.5") is expected
