"""From what the file says of a target to the nodes that it stands for.

In: a name, tag, group, address or ECS service. Out: managed nodes that are online, or
the reason why there is none (``not_found.py``). Starts no session.
"""
