"""Another forwarder next to ours: ``python -m benchmarks --beside COMMAND``.

``command_line`` takes the arguments, ``contest`` lets both do the ``steps`` in turns,
``forwarder`` runs their processes, and ``table`` writes the report.
"""
