"""Our excerpt of EC2's model agrees with botocore's own."""

import asyncio
import json

from botocore.loaders import Loader, create_loader

from ssmtunneld.aws.api.models import EC2_MODEL, Models
from ssmtunneld.aws.identity.provider_chain import new_session


def without_words(shape):
    return {k: v for k, v in shape.items() if k not in {"documentation", "exception"}}


def test_the_excerpt_says_what_the_whole_says():
    whole = Loader().load_service_model("ec2", "service-2")
    for name, shape in EC2_MODEL["shapes"].items():
        theirs = whole["shapes"].get(name, {"type": shape["type"]})
        assert theirs["type"] == shape["type"], name
        for member, ours in shape.get("members", {}).items():
            its = theirs["members"][member]
            assert its.get("locationName") == ours.get("locationName"), member
        if shape["type"] == "list":
            assert theirs["member"]["locationName"] == shape["member"]["locationName"]
    for name, operation in EC2_MODEL["operations"].items():
        theirs = whole["operations"][name]
        assert theirs["http"] == operation["http"]
        assert theirs["input"]["shape"] == operation["input"]["shape"]
        assert theirs["output"]["shape"] == operation["output"]["shape"]
    ours = EC2_MODEL["metadata"]
    assert {key: whole["metadata"].get(key, ours[key]) for key in ours} == ours


def test_everything_else_is_botocores():
    models = Models(create_loader().search_paths)
    assert models.load_service_model("ec2", "service-2") is EC2_MODEL
    rules = models.load_service_model("ec2", "endpoint-rule-set-1")
    assert rules["rules"]
    assert "StartSession" in models.load_service_model("ssm", "service-2")["operations"]


async def test_threads_that_want_the_same_model_read_it_once(monkeypatch):
    opened = []
    load = json.loads

    def reading(text, **options):
        opened.append(len(text))
        return load(text, **options)

    models = Models(create_loader().search_paths)
    monkeypatch.setattr(json, "loads", reading)
    wanted = ("ssm", "service-2")
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
