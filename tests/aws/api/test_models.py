"""Our excerpts of botocore's models and endpoints agree with its own."""

import ast
import asyncio
import json
from pathlib import Path

import pytest
from botocore.exceptions import UnknownServiceError
from botocore.loaders import Loader, create_loader
from botocore.regions import EndpointResolver

from ssmtunneld import aws
from ssmtunneld.aws.api.models import (
    EC2_MODEL,
    EKS_MODEL,
    SERVICES,
    SSM_MODEL,
    Models,
    _shortened,
)
from ssmtunneld.aws.identity.provider_chain import new_session


def without_words(shape):
    return {k: v for k, v in shape.items() if k not in {"documentation", "exception"}}


# What the oldest botocore that is allowed does not know yet.
LATER = {"SourceLocation"}


def members_agree(ours, theirs, whole, excerpt):
    """Compare a shape with botocore's, and all that it consists of."""
    assert ours["type"] == theirs["type"]
    assert set(ours.get("required", ())) == set(theirs.get("required", ()))
    inner = {**ours.get("members", {})}
    inner |= {k: ours[k] for k in ("member", "key", "value") if k in ours}
    for name, reference in inner.items():
        if name in LATER and name not in theirs["members"]:
            continue
        its = (
            theirs["members"][name] if name in ours.get("members", {}) else theirs[name]
        )
        for where in ("location", "locationName"):
            assert its.get(where) == reference.get(where), name
        members_agree(
            excerpt["shapes"][reference["shape"]],
            whole["shapes"][its["shape"]],
            whole,
            excerpt,
        )


@pytest.mark.parametrize(
    ("service", "excerpt"), [("ec2", EC2_MODEL), ("eks", EKS_MODEL), ("ssm", SSM_MODEL)]
)
def test_an_excerpt_says_what_the_whole_says(service, excerpt):
    whole = Loader().load_service_model(service, "service-2")
    for name, operation in excerpt["operations"].items():
        theirs = whole["operations"][name]
        assert theirs["http"] == operation["http"]
        assert ("output" in theirs) == ("output" in operation)
        for part in operation.keys() & {"input", "output"}:
            shape = operation[part]["shape"]
            assert theirs[part]["shape"] == shape
            members_agree(
                excerpt["shapes"][shape], whole["shapes"][shape], whole, excerpt
            )
    ours = excerpt["metadata"]
    assert {key: whole["metadata"].get(key, ours[key]) for key in ours} == ours


def constants(folder):
    """Return all text constants of the modules in ``folder``."""
    nodes = (
        n for p in folder.rglob("*.py") for n in ast.walk(ast.parse(p.read_text()))
    )
    return {
        node.value
        for node in nodes
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }


def test_every_service_that_is_named_has_its_endpoints():
    loader = Loader()
    named = constants(Path(aws.__file__).parent)
    # Words that happen to be services, too.
    named -= {"account", "connect", "location", "signin"}
    services = named & set(loader.list_available_services("service-2"))
    assert {"ssm", "ec2", "sts", "rds"} <= services
    wanted = {
        loader.load_service_model(service, "service-2")["metadata"]["endpointPrefix"]
        for service in services | {"sso", "sso-oidc"}
    }
    assert wanted <= SERVICES


def test_every_operation_that_is_named_is_in_its_excerpt():
    folder = Path(aws.__file__).parent
    named = constants(folder) | constants(folder.parent / "doctor")
    whole = Loader().load_service_model("ssm", "service-2")["operations"]
    assert named & whole.keys() <= SSM_MODEL["operations"].keys()


def test_endpoints_of_our_services_are_the_same():
    paths = create_loader().search_paths
    ours = EndpointResolver(Models(paths).load_data("endpoints"))
    whole = Loader().load_data("endpoints")
    theirs = EndpointResolver(whole)
    assert len(whole["partitions"][0]["services"]) > 10 * len(SERVICES)
    for partition in theirs.get_available_partitions():
        for service in SERVICES:
            regions = theirs.get_available_endpoints(
                service, partition, allow_non_regional=True
            )
            assert regions == ours.get_available_endpoints(
                service, partition, allow_non_regional=True
            )
            for region in (*regions, "eu-west-1", "us-gov-west-1"):
                assert ours.construct_endpoint(
                    service, region, partition
                ) == theirs.construct_endpoint(service, region, partition)


def endpoints_of(folder, text):
    """Return what is read of a folder whose endpoints are ``text``."""
    (folder / "endpoints.json").write_text(text)
    return Models([str(folder)]).load_data("endpoints")


def test_a_folder_that_cannot_be_looked_into_has_none(tmp_path):
    unseen = [str(tmp_path / name) for name in ("x" * 300, "a/" * 3000)]
    paths = create_loader().search_paths
    found = Models([*unseen, *paths]).load_data("endpoints")
    assert found == Models(paths).load_data("endpoints")


def test_endpoints_are_the_same_however_their_file_is_laid_out(tmp_path):
    path = Path(create_loader().load_data_with_path("endpoints")[1])
    text = path.with_name("endpoints.json").read_text()
    whole = json.loads(text)
    expected = Models(create_loader().search_paths).load_data("endpoints")
    for indent in (None, 1, 2, 4):
        laid_out = json.dumps(whole, indent=indent)
        assert endpoints_of(tmp_path, laid_out) == expected
    # As botocore has it in one half and not in the other: what is cut is no JSON.
    half = text.index('"services"', text.index('"services"') + 1)
    mixed = text[:half] + text[half:].replace("\n    }", "}")
    assert endpoints_of(tmp_path, mixed) == expected


def test_a_partition_without_services_costs_the_others_nothing():
    text = """{
  "partitions" : [ {
    "partition" : "empty",
    "services" : { }
  }, {
    "partition" : "aws",
    "services" : {
      "acm" : {
        "endpoints" : { }
      },
      "ssm" : {
        "endpoints" : { }
      }
    }
  } ]
}"""
    whole = json.loads(text)
    del whole["partitions"][1]["services"]["acm"]
    assert json.loads(_shortened(text)) == whole


def test_most_endpoints_are_not_parsed():
    path = create_loader().load_data_with_path("endpoints")[1]
    text = Path(path).with_suffix(".json").read_text()
    assert len(text) > 5 * len(_shortened(text))
    assert json.loads(_shortened(text))["partitions"]


def test_a_file_of_endpoints_that_is_broken_says_so(tmp_path):
    with pytest.raises(json.JSONDecodeError):
        endpoints_of(tmp_path, "{")


def test_rules_for_endpoints_are_botocores_and_no_other_service_is_looked_at(
    monkeypatch,
):
    models = Models(create_loader().search_paths)
    whole = Loader().load_service_model("ssm", "endpoint-rule-set-1")
    with monkeypatch.context() as patched:
        patched.setattr(Models, "list_available_services", None)
        assert models.load_service_model("ssm", "endpoint-rule-set-1") == whole
    with pytest.raises(UnknownServiceError):
        models.load_service_model("no-such-service", "endpoint-rule-set-1")


def test_everything_else_is_botocores():
    models = Models(create_loader().search_paths)
    assert models.load_service_model("ec2", "service-2") is EC2_MODEL
    assert models.load_service_model("ssm", "service-2") is SSM_MODEL
    rules = models.load_service_model("ec2", "endpoint-rule-set-1")
    assert rules["rules"]
    operations = models.load_service_model("rds", "service-2")["operations"]
    assert "DescribeDBInstances" in operations


async def test_threads_that_want_the_same_model_read_it_once(monkeypatch):
    opened = []
    load = json.loads

    def reading(text, **options):
        opened.append(len(text))
        return load(text, **options)

    models = Models(create_loader().search_paths)
    monkeypatch.setattr(json, "loads", reading)
    wanted = ("rds", "service-2")
    found = await asyncio.gather(
        *(asyncio.to_thread(models.load_service_model, *wanted) for _ in range(8))
    )
    assert all(model is found[0] for model in found)
    sizes = [size for size in opened if size > 100_000]
    assert len(sizes) == 1


async def test_all_threads_get_the_same_models():
    sessions = await asyncio.gather(
        *(asyncio.to_thread(new_session, None) for _ in range(8))
    )
    loaders = {id(each.get_component("data_loader")) for each in sessions}
    assert len(loaders) == 1
