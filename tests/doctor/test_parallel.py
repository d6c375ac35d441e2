"""Many tunnels: a few at once, each with its outcome, and an end in any case."""

import asyncio
from datetime import UTC, datetime

from ssmtunneld.config import parse_config
from ssmtunneld.doctor import parallel
from ssmtunneld.doctor.parallel import AT_ONCE, Outcome, examine_all
from ssmtunneld.doctor.report import HOPS, Finding, Verdict
from ssmtunneld.doctor.walk import DoctorContext
from tests.doctor.conftest import SILENT
from tests.integration.world import tunnel


def tunnels(theatre, *names):
    text = "\n".join(tunnel(name, port=theatre.port) for name in names)
    return parse_config(text, "test.toml", {}).tunnels


def walk(theatre, *names, timeout=60.0):
    """Return the outcomes by name."""
    found = {}

    def tell(outcome):
        assert outcome.tunnel not in found
        found[outcome.tunnel] = outcome

    world = DoctorContext(lambda: datetime.now(UTC).timestamp(), SILENT)
    chosen = tunnels(theatre, *names)
    asyncio.run(examine_all(chosen, world, tell, timeout=timeout))
    return found


def test_every_tunnel_has_its_outcome(theatre):
    names = [f"t{number}" for number in range(AT_ONCE + 2)]
    found = walk(theatre, *names)
    assert set(found) == set(names)
    assert not any(outcome.broken for outcome in found.values())
    assert [f.hop for f in found["t0"].findings] == list(HOPS)


def test_no_more_than_a_few_are_tried_at_once(theatre):
    theatre.aws.set_faults("handshake-stall")
    names = [f"t{number}" for number in range(AT_ONCE + 2)]
    found = walk(theatre, *names, timeout=10)
    assert len(theatre.aws.sessions()) == AT_ONCE
    reached = sorted(outcome.broken.hop for outcome in found.values())
    assert reached == ["credentials"] * 2 + ["handshake"] * AT_ONCE
    late = next(o.broken for o in found.values() if o.broken.hop == "credentials")
    assert late.text == "not started within 10 s"
    slow = next(o.broken for o in found.values() if o.broken.hop == "handshake")
    assert slow.text == "not finished within 10 s"
    assert "ssmtunneld doctor t" in slow.cure


def test_a_walk_that_has_told_everything_is_not_late(theatre, monkeypatch):
    async def told_all(_tunnel, _world, tell):
        for hop in HOPS:
            tell(Finding(hop, Verdict.OK, ""))
        await asyncio.Event().wait()  # a session that takes its time to end

    monkeypatch.setattr(parallel, "examine", told_all)
    assert walk(theatre, "x", timeout=0.1)["x"].broken is None


def test_an_outcome_tells_what_is_broken_from_what_is_slow():
    slow = Finding("round trip", Verdict.WARN, "600 ms", "come closer")
    down = Finding("tcp", Verdict.FAIL, "refused")
    outcome = Outcome("x", (down, slow))
    assert (outcome.broken, outcome.warnings) == (down, (slow,))
    assert Outcome("x", ()).broken is None
    assert slow.told == "round trip: 600 ms; come closer"
    assert down.told == "tcp: refused"
