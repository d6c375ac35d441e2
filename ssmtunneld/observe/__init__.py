"""Observation of the daemon: logs, metrics, status, health, history, probes.

In: snapshots of tunnels, sessions and connections. Out: one frozen status document and
what is made from it. May never import ``serve`` or ``daemon``, and changes nothing that
it looks at; only the probe and the state hook act.
"""
