"""Streams inside a session, against a server as simple as smux is."""

from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    invariant,
    rule,
)

from ssmtunneld.protocol.message import MAX_PAYLOAD
from ssmtunneld.smux.frame import Command, FrameDecoder, encode_frame
from ssmtunneld.smux.mux import Mux


class _Remote:
    """The server's view of one stream."""

    def __init__(self):
        self.got = b""
        self.ended = False


class _Server:
    """The other end: it takes whole messages, and refuses what makes no sense."""

    def __init__(self):
        self.streams = {}
        self._decoder = FrameDecoder()

    def receive(self, payload):
        assert len(payload) <= MAX_PAYLOAD
        for command, stream_id, data in self._decoder.feed(payload):
            if command is Command.SYN:
                assert stream_id not in self.streams, "a stream that begins twice"
                self.streams[stream_id] = _Remote()
            elif command is not Command.NOP:
                remote = self.streams[stream_id]
                assert not remote.ended, "a frame behind the end"
                remote.got += data
                remote.ended = command is Command.FIN
        # If a frame were cut, the header of this one would be taken for its rest.
        assert len(self._decoder.feed(encode_frame(Command.NOP, 0))) == 1


class _Local:
    """The test's view of one stream."""

    def __init__(self, stream):
        self.stream = stream
        self.sent = b""
        self.got = b""
        self.coming = b""
        self.finished = self.closed = self.cut = False


class MuxMachine(RuleBasedStateMachine):
    """Streams that open, speak and end at any time, on both sides."""

    streams = Bundle("streams")

    def __init__(self):
        super().__init__()
        self.mux = Mux()
        self.server = _Server()
        self.locals = []

    @rule(target=streams)
    def open(self):
        local = _Local(self.mux.open())
        self.locals.append(local)
        return local

    @rule(local=streams, size=st.integers(0, 5000), byte=st.integers(0, 255))
    def send(self, local, size, byte):
        data = bytes([byte]) * size
        self.mux.send(local.stream, data)
        if not local.finished:
            local.sent += data

    @rule(local=streams)
    def finish(self, local):
        self.mux.finish(local.stream)
        local.finished = True

    @rule(local=streams)
    def read(self, local):
        local.got += self.mux.read(local.stream)

    @rule(local=consumes(streams))
    def close(self, local):
        self.mux.close(local.stream)
        local.finished = local.closed = True

    @rule(local=streams)
    def abort(self, local):
        self.mux.abort(local.stream)
        local.finished = local.closed = local.cut = True

    @rule()
    def nop(self):
        self.mux.nop()

    @rule()
    def dial_failed(self):
        self.mux.dial_failed()

    @rule(count=st.integers(1, 20))
    def transmit(self, count):
        for _ in range(count):
            self.server.receive(self.mux.next_payload())

    @rule(local=streams, data=st.binary(max_size=50), fin=st.booleans())
    def arrive(self, local, data, fin):
        stream = local.stream
        if stream.stream_id not in self.server.streams or stream.ended:
            return
        frames = encode_frame(Command.PSH, stream.stream_id, data)
        if fin:
            frames += encode_frame(Command.FIN, stream.stream_id)
        for changed in self.mux.receive(frames):
            assert changed is stream
        if not local.closed:
            local.coming += data
        if fin:
            local.finished = local.cut = True

    @invariant()
    def nothing_is_lost_or_invented(self):
        for local in self.locals:
            assert local.coming.startswith(local.got)
            remote = self.server.streams.get(local.stream.stream_id)
            if remote is not None:
                assert local.sent.startswith(remote.got)

    @invariant()
    def the_count_of_unread_memory_is_right(self):
        assert self.mux.unread == sum(local.stream.unread for local in self.locals)

    @invariant()
    def streams_are_forgotten_once_they_are_over(self):
        over = [
            local.stream.fin_sent and (local.stream.ended or local.closed)
            for local in self.locals
        ]
        assert self.mux.streams == over.count(False)

    def teardown(self):
        for _ in range(10_000):
            payload = self.mux.next_payload()
            if not payload:
                break
            self.server.receive(payload)
        assert self.mux.statistics().pending == 0
        for local in self.locals:
            remote = self.server.streams[local.stream.stream_id]
            assert remote.ended is local.finished
            if not local.cut:
                assert remote.got == local.sent
            if not local.closed:
                assert local.got + self.mux.read(local.stream) == local.coming


TestMuxMachine = MuxMachine.TestCase
