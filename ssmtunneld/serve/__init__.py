"""Answers of the daemon: control socket, HTTP, service manager.

In: requests of operators, browsers, Prometheus, systemd. Out: documents made in
``observe``. Only reading here, except for what the control socket passes on to the
daemon. May never import ``daemon``: what is needed of it is a ``Protocol`` here.
"""
