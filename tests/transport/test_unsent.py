"""Limits on unsent bytes in the kernel: they wait in front of the socket."""

import asyncio
import socket
import sys

import pytest

from ssmtunneld.transport.unsent import UNSENT, WRITE_BUFFER, keep_unsent_little


class Transport(asyncio.WriteTransport):
    """A transport over ``sock``, or over none."""

    def __init__(self, sock=None):
        super().__init__({"socket": sock})
        self.high = None
        self.closing = False

    def is_closing(self):
        return self.closing

    def set_write_buffer_limits(self, high=None, low=None):
        self.high = high


def test_the_buffer_in_front_of_a_socket_is_little():
    transport = Transport()
    keep_unsent_little(transport)
    assert transport.high == WRITE_BUFFER


@pytest.mark.skipif(sys.platform != "linux", reason="the option's name is Linux's")
def test_the_kernel_takes_little_that_it_cannot_send():
    with socket.socket() as sock:
        keep_unsent_little(Transport(sock))
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT) == UNSENT


def test_a_socket_that_does_not_know_the_option_is_used_as_it_is():
    one, other = socket.socketpair()
    with one, other:
        transport = Transport(one)
        keep_unsent_little(transport)
        assert transport.high == WRITE_BUFFER


def test_a_connection_that_is_cut_by_now_is_told_from_a_defect():
    transport = Transport()
    transport.closing = True
    with pytest.raises(ConnectionResetError):
        keep_unsent_little(transport)
    assert transport.high is None
