"""Pages are asked for until there are no more, or too many."""

from ssmtunneld.aws.api.answers import Answer
from ssmtunneld.aws.api.pages import turn_pages


class Service:
    """Answers with these tokens, one after the other, and notes what it was asked."""

    def __init__(self, *tokens, key="NextToken"):
        self.tokens = list(tokens)
        self.key = key
        self.asked = []

    def __call__(self, **parameters):
        self.asked.append(parameters)
        return Answer({self.key: self.tokens.pop(0)})


def test_a_token_is_sent_back_until_there_is_none():
    service = Service("a", "b", None)
    found = [last for _, last in turn_pages(service, {"Max": 5}, limit=9)]
    assert found == [False, False, True]
    assert service.asked == [
        {"Max": 5},
        {"Max": 5, "NextToken": "a"},
        {"Max": 5, "NextToken": "b"},
    ]


def test_a_list_without_an_end_is_left_at_the_limit():
    service = Service("a", "a", "a", "a")
    found = [last for _, last in turn_pages(service, {}, limit=3)]
    assert found == [False, False, False]
    assert len(service.asked) == 3


def test_services_name_their_tokens_in_their_own_way():
    service = Service("a", "", key="NextMarker")
    tokens = ("Marker", "NextMarker")
    assert len(list(turn_pages(service, {}, limit=9, tokens=tokens))) == 2
    assert service.asked == [{}, {"Marker": "a"}]


def test_what_cannot_be_a_token_ends_the_list():
    service = Service({"not": "text"})
    assert [last for _, last in turn_pages(service, {}, limit=9)] == [True]
