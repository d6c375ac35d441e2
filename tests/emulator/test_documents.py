"""Session documents: defaults, patterns, substitution."""

import pytest

from ssmtunneld.emulator.documents import BUILT_IN, Document, ParameterRefused
from ssmtunneld.errors import ConfigError


def document(name):
    return Document.parse(name, BUILT_IN[name])


def test_port_forwarding_has_the_defaults_of_aws():
    assert document("AWS-StartPortForwardingSession").properties({}) == {
        "portNumber": "80",
        "type": "LocalPortForwarding",
        "localPortNumber": "0",
    }


def test_a_remote_host_is_passed_on():
    properties = document("AWS-StartPortForwardingSessionToRemoteHost").properties(
        {"portNumber": ["5432"], "host": ["db.internal"]}
    )
    assert properties["host"] == "db.internal"
    assert properties["portNumber"] == "5432"


def test_the_ssh_document_has_no_type():
    assert document("AWS-StartSSHSession").properties({}) == {"portNumber": "22"}


@pytest.mark.parametrize("port", ["0", "65536", "80x", "", "-1", "080"])
def test_a_port_must_be_a_port(port):
    with pytest.raises(ParameterRefused, match="portNumber"):
        document("AWS-StartPortForwardingSession").properties({"portNumber": [port]})


def test_a_local_port_may_be_zero():
    properties = document("AWS-StartPortForwardingSession").properties(
        {"localPortNumber": ["0"], "portNumber": ["65535"]}
    )
    assert properties["portNumber"] == "65535"


def test_an_unknown_parameter_is_refused():
    with pytest.raises(ParameterRefused, match="host is not a parameter"):
        document("AWS-StartPortForwardingSession").properties({"host": ["x"]})


def test_a_custom_document_may_demand_a_parameter_and_fix_another():
    custom = Document.parse(
        "Corp-Database",
        {
            "sessionType": "Port",
            "parameters": {"shard": {"type": "String"}},
            "properties": {
                "host": "db-{{shard}}.internal",
                "portNumber": "5432",
                "type": "LocalPortForwarding",
                "odd": "{{ unknown }}",
            },
        },
    )
    assert custom.properties({"shard": ["7"]})["host"] == "db-7.internal"
    assert custom.properties({"shard": ["7"]})["odd"] == "{{ unknown }}"
    with pytest.raises(ParameterRefused, match="shard is required"):
        custom.properties({})


@pytest.mark.parametrize(
    "content",
    [
        {"sessionType": "Standard_Stream", "properties": {}},
        {"sessionType": "Port"},
        {"sessionType": "Port", "properties": []},
        {},
    ],
)
def test_other_documents_cannot_be_registered(content):
    with pytest.raises(ConfigError, match="document Odd"):
        Document.parse("Odd", content)
