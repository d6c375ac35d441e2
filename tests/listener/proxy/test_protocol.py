import pytest

from ssmtunneld.config.destinations import Destination
from ssmtunneld.errors import DestinationRefused, NoSessionReady, StreamReset
from ssmtunneld.listener.proxy.protocol import (
    DestinationForbidden,
    Refusal,
    TooManyDestinations,
    refusal_for,
)

SOMEWHERE = Destination("db.local", 5432)


@pytest.mark.parametrize(
    ("error", "refusal"),
    [
        (DestinationForbidden(SOMEWHERE), Refusal.FORBIDDEN),
        (TooManyDestinations(SOMEWHERE, 3), Refusal.CROWDED),
        (DestinationRefused("x"), Refusal.REFUSED),
        (NoSessionReady("x"), Refusal.LATE),
        (StreamReset("x"), Refusal.FAILED),
    ],
)
def test_an_error_has_its_answer(error, refusal):
    assert refusal_for(error) is refusal


def test_errors_name_the_destination_and_the_setting():
    forbidden = DestinationForbidden(SOMEWHERE)
    assert "db.local:5432" in str(forbidden)
    assert '"db.local:5432" to destinations' in forbidden.advice
    crowded = TooManyDestinations(SOMEWHERE, 3)
    assert "all 3 destinations" in str(crowded)
    assert "max_destinations" in crowded.advice
