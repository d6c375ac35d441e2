"""The AWS side of Session Manager port sessions, played on loopback.

In: what boto3, the official plugin and our daemon send. Out: what AWS and the agent
would answer, faults on request included. Shares codecs with the client, never
behaviour: may import ``protocol.message``, ``protocol.payloads`` and ``smux.frame``.
"""
