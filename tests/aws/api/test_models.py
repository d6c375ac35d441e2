"""Our excerpt of EC2's model agrees with botocore's own."""

from botocore.loaders import Loader

from ssmtunneld.aws.api.models import EC2_MODEL, Models


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
    models = Models()
    assert models.load_service_model("ec2", "service-2") is EC2_MODEL
    rules = models.load_service_model("ec2", "endpoint-rule-set-1")
    assert rules["rules"]
    assert "StartSession" in models.load_service_model("ssm", "service-2")["operations"]
