"""OpenSSH through sessions: ProxyCommand, its configuration, keys for one login.

In: a host name as ssh has it. Out: one connection, on standard input and output or
handed over to ssh (``fd_passing.py``): through a daemon that runs
(``daemon_route.py``), or a session of its own (``single_session.py``).
"""
