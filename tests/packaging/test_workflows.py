"""``.github/workflows``: what runs is fixed, may do little, and publishes signed tags.

actionlint and zizmor look closer: `packaging/lint`.
"""

import re

import pytest
import yaml

from tests.packaging.container import ROOT

FOLDER = ROOT / ".github" / "workflows"
NAMES = sorted(path.name for path in FOLDER.iterdir())
USES = re.compile(r"^ *(?:- )?uses: (?P<action>\S+)(?P<comment>.*)$", re.MULTILINE)


def read(name):
    """Return a workflow as data; YAML reads the key `on` as true."""
    return yaml.safe_load((FOLDER / name).read_text())


def steps(workflow):
    """Return all steps of all jobs."""
    return [step for job in workflow["jobs"].values() for step in job["steps"]]


@pytest.mark.parametrize("name", NAMES)
def test_every_action_is_fixed_by_its_digest_and_says_its_version(name):
    found = list(USES.finditer((FOLDER / name).read_text()))
    assert len(found) == sum("uses" in step for step in steps(read(name)))
    for use in found:
        assert re.fullmatch(r"[\w.-]+/[\w.-]+@[0-9a-f]{40}", use["action"])
        assert re.fullmatch(r" # v[0-9]+\.[0-9]+\.[0-9]+", use["comment"])


def test_an_action_has_the_same_digest_everywhere():
    digests = {}
    for name in NAMES:
        for use in USES.finditer((FOLDER / name).read_text()):
            action, _, digest = use["action"].partition("@")
            digests.setdefault(action, set()).add(digest)
    assert all(len(found) == 1 for found in digests.values())


@pytest.mark.parametrize("name", NAMES)
def test_a_job_may_do_what_it_says_only_and_ends(name):
    workflow = read(name)
    assert workflow["permissions"] == {}
    for job in workflow["jobs"].values():
        assert "permissions" in job
        assert job["timeout-minutes"] <= 45
    for step in steps(workflow):
        if step.get("uses", "").startswith("actions/checkout@"):
            assert step["with"]["persist-credentials"] is False


def test_only_publishing_may_write_after_all_else_and_from_a_signed_tag():
    workflow = read("release.yml")
    jobs = workflow["jobs"]
    writing = {
        name for name, job in jobs.items() if "write" in job["permissions"].values()
    }
    assert writing == {"publish"}
    publish = jobs["publish"]
    assert publish["if"] == "github.event_name == 'push'"
    assert workflow[True]["push"] == {"tags": ["v*"]}
    assert publish["environment"] == "release"
    assert {*publish["needs"]} == {*jobs} - {"publish", "tag"}
    # The others wait for the signature to be checked.
    for name in publish["needs"]:
        assert jobs[name]["needs"] in ("tag", "build")
    assert any(
        "verification.verified" in s.get("run", "") for s in jobs["tag"]["steps"]
    )


def test_no_step_is_given_a_stored_secret():
    for name in NAMES:
        assert "secrets." not in (FOLDER / name).read_text()


def test_the_scripts_that_are_run_exist():
    for name in NAMES:
        text = (FOLDER / name).read_text()
        for script in re.findall(r"(?<![\w/])packaging/[\w./-]+", text):
            assert (ROOT / script).exists(), script
