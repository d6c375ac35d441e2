"""A tunnel's settings from what was discovered."""

import pytest

from ssmtunneld.aws.discovery import Discovery, Resource
from ssmtunneld.aws.targets.inventory import Node
from ssmtunneld.cli.exit_codes import CommandError
from ssmtunneld.cli.setup.discovered import destination_of, find, in_same_vpc, spell

WRITER = Resource("rds", "orders", "aurora", "orders.w", 5432, "vpc-1", "writer")
READER = Resource("rds", "orders", "aurora", "orders.r", 5432, "vpc-1", "reader")
DISCOVERY = Discovery((WRITER, READER), ("eks: denied",))


def test_the_writer_is_meant_by_an_id_and_anything_by_its_host():
    assert find("orders", DISCOVERY) is WRITER
    assert find("orders.r", DISCOVERY) is READER


def test_what_is_not_there_is_said_with_what_is_near():
    with pytest.raises(CommandError) as caught:
        find("oders", DISCOVERY)
    assert caught.value.advice == "did you mean orders?"
    assert caught.value.problems == ("eks: denied",)
    with pytest.raises(CommandError) as caught:
        find("x", DISCOVERY)
    assert caught.value.advice == "see ssmtunneld discover"


def test_a_cluster_is_written_by_its_name_and_all_else_by_its_host():
    assert destination_of(WRITER) == {"host": "orders.w", "port": 5432}
    cluster = Resource("eks", "prod", "kubernetes", "0a1b.eks.amazonaws.com", 443)
    assert destination_of(cluster) == {"cluster": "prod", "port": 443}


def test_targets_beside_a_resource_are_online_and_in_its_vpc():
    here = Node("i-0a", "a", "Online", vpc="vpc-1")
    nodes = [here, Node("i-0b", ping="Online", vpc="vpc-2"), Node("i-0c", vpc="vpc-1")]
    assert in_same_vpc(WRITER, nodes) == [here]
    assert in_same_vpc(Resource("s", "x", "e", "h", 1), nodes) == []


def test_a_target_is_spelled_by_its_name_where_only_it_has_that():
    one, two = Node("i-0a", "bastion", vpc="v"), Node("i-0b", "bastion", vpc="v")
    managed = Node("mi-0c", "rack")
    assert spell(one, [one, managed]) == "name:bastion"
    assert spell(one, [one, two]) == "i-0a"
    assert spell(managed, [managed]) == "mi-0c"
