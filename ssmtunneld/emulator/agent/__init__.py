"""The emulated agent of one session: reliability layer, handshake, port plugin, smux.

In: messages as the service passes them on. Out: what the real agent would send, by the
agent columns of the specification (protocol 4 to 7).
Shares no behaviour with our client.
"""
