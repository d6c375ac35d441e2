"""A channel through loss, repetition, reordering, and links that come and go.

Against the agent as protocol.md describes it, and against itself through a mirror:
everything that one end accepted is delivered by the other exactly once and in order.
"""

from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from ssmtunneld.errors import HandshakeFailed
from ssmtunneld.protocol.channel import HANDSHAKE_TIMEOUT
from ssmtunneld.protocol.message import MAX_PAYLOAD
from ssmtunneld.protocol.states import State
from tests.support.bench import new_channel, open_bench, pause, start
from tests.support.peer import Agent, Mirrored
from tests.support.world import Faults, World

seeds = st.integers(0, 2**32)
faults = st.builds(
    Faults, loss=st.floats(0, 0.4), repeat=st.floats(0, 0.5), jitter=st.floats(0, 0.5)
)
amounts = st.integers(0, 120)


def _payloads(name, count):
    """Return payloads that can be told apart, some of them full."""
    return [
        f"{name}{number}".encode().ljust(MAX_PAYLOAD if number % 3 == 0 else 1, b".")
        for number in range(count)
    ]


def _against_the_agent(faults, seed):
    random = Random(seed)
    return World(new_channel(), Agent(random), faults, random)


def _against_itself(faults, seed):
    channel = open_bench().core
    channel.detach()
    return World(channel, Mirrored(), faults, Random(seed))


def _converse(world, up, down, cuts=()):
    world.attach_channel()
    world.attach_peer()
    world.send_up(up)
    world.send_down(down)
    for pause_before, cut in cuts:
        world.run(pause_before)
        cut(world)
        world.run(pause_before)
        _mend(world)
    world.run_until_quiet()


def _mend(world):
    """Give both ends websockets, and the agent leave to speak: it waits for that."""
    world.attach_channel()
    world.attach_peer()
    world.advise(start(), up=True)


def _finished(world, up, down):
    assert world.closed is None
    assert world.peer.got == up
    assert world.got == down
    assert world.channel.statistics().unacked == 0
    assert world.peer.unacked == 0


@given(faults, seeds, amounts, amounts)
def test_everything_arrives_once_and_in_order_at_the_agent(faults, seed, up, down):
    world = _against_the_agent(Faults(), seed)
    # Chance alone could keep a handshake from being completed in its time.
    world.attach_channel()
    world.attach_peer()
    world.run_until_quiet()
    world.faults = faults
    up, down = _payloads("u", up), _payloads("d", down)
    world.send_up(up)
    world.send_down(down)
    world.run_until_quiet()
    _finished(world, up, down)


@given(faults, seeds, amounts, amounts)
def test_everything_arrives_once_and_in_order_at_ourselves(faults, seed, up, down):
    world = _against_itself(faults, seed)
    up, down = _payloads("u", up), _payloads("d", down)
    _converse(world, up, down)
    _finished(world, up, down)


@settings(max_examples=5)
@given(seeds, st.sampled_from([0.0, 0.01, 0.1]))
def test_a_bulk_transfer_fills_the_window_and_arrives(seed, loss):
    world = _against_itself(Faults(loss=loss, jitter=0.01), seed)
    up = [bytes([number % 256]) * MAX_PAYLOAD for number in range(3000)]
    _converse(world, up, [])
    _finished(world, up, [])


cuts = st.lists(
    st.tuples(
        st.floats(0, 1),
        st.sampled_from(
            [
                World.cut_channel,
                World.cut_peer,
                lambda world: world.cut_channel(undrained=True),
                lambda world: world.advise(pause(), up=False),
                lambda world: world.advise(pause(), up=True),
                lambda world: world.advise(start(), up=False),
            ]
        ),
    ),
    max_size=6,
)


@given(faults, seeds, cuts, amounts, amounts)
def test_links_come_and_go_also_in_the_middle_of_the_handshake(
    faults, seed, cuts, up, down
):
    world = _against_the_agent(Faults(faults.loss / 4, faults.repeat, 0.05), seed)
    up, down = _payloads("u", up), _payloads("d", down)
    _converse(world, up, down, cuts)
    _finished(world, up, down)


@given(faults, seeds, cuts)
def test_the_same_seed_gives_the_same_conversation(faults, seed, cuts):
    def transcript():
        world = _against_itself(faults, seed)
        _converse(world, _payloads("u", 20), _payloads("d", 20), cuts)
        return world.transcript

    assert transcript() == transcript()


class ChannelMachine(RuleBasedStateMachine):
    """A channel and an agent, and whatever may happen to them, in any order."""

    @initialize(seed=seeds, faults=faults)
    def begin(self, seed, faults):
        self.world = _against_the_agent(faults, seed)
        self.up, self.down = [], []

    @rule()
    def attach(self):
        self.world.attach_channel()

    @rule()
    def attach_the_agent(self):
        self.world.attach_peer()

    @rule(undrained=st.booleans())
    def detach(self, undrained):
        self.world.cut_channel(undrained=undrained)

    @rule()
    def lose_the_agents_link(self):
        self.world.cut_peer()

    @rule(count=st.integers(1, 80))
    def send(self, count):
        payloads = [b"u%d.%d" % (len(self.up), number) for number in range(count)]
        self.up += payloads
        self.world.send_up(payloads)

    @rule(count=st.integers(1, 80))
    def answer(self, count):
        payloads = [b"d%d.%d" % (len(self.down), number) for number in range(count)]
        self.down += payloads
        self.world.send_down(payloads)

    @rule(seconds=st.sampled_from([0.01, 0.1, 1.0, 5.0]))
    def advance(self, seconds):
        self.world.run(seconds)

    @rule(up=st.booleans(), message=st.sampled_from([pause(), start()]))
    def advise(self, up, message):
        self.world.advise(message, up=up)

    @rule(faults=faults)
    def change_the_weather(self, faults):
        self.world.faults = faults

    @precondition(lambda self: self.world.channel.statistics().state is State.OPEN)
    @rule()
    def come_to_rest(self):
        self._rest()

    @invariant()
    def nothing_is_delivered_that_was_not_sent_or_in_another_order(self):
        assert self.world.got == self.down[: len(self.world.got)]
        assert self.world.peer.got == self.up[: len(self.world.peer.got)]

    def _rest(self):
        world = self.world
        world.faults = Faults()
        _mend(world)
        world.run_until_quiet()
        if world.closed is None:
            _finished(world, self.up, self.down)
        else:
            assert isinstance(world.closed.error, HandshakeFailed)
            assert world.now >= HANDSHAKE_TIMEOUT

    def teardown(self):
        if hasattr(self, "world"):
            self._rest()


TestChannelMachine = ChannelMachine.TestCase
