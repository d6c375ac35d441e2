"""The place of a tunnel's keys: empty until an approval, and silent about them."""

from ssmtunneld.aws.api.access_keys import AccessKeyHolder, AccessKeys
from ssmtunneld.base.secret import Secret


def test_a_holder_has_no_keys_before_an_approval():
    holder = AccessKeyHolder("run: ssmtunneld request db --reason TEXT")
    assert holder.keys is None
    assert holder.advice.startswith("run: ")


def test_keys_do_not_print():
    keys = AccessKeys("ASIA", Secret("canary-secret-key"), Secret("canary-token"), 1.0)
    assert "canary" not in f"{keys} {keys!r}"
