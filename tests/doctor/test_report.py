"""Reports of findings, in words of one line."""

from ssmtunneld.doctor.report import HOPS, Broken
from ssmtunneld.errors import AccessDenied


def test_a_refusal_of_the_service_keeps_its_words_and_its_advice():
    error = AccessDenied("StartSession", "AccessDenied", "not\nallowed", "ask for it")
    broken = Broken.by(error, "target")
    assert broken.text == "StartSession failed: AccessDenied: not allowed"
    assert (broken.cure, broken.hop) == ("ask for it", "target")


def test_no_hop_is_listed_twice():
    assert len(set(HOPS)) == len(HOPS)
