"""The service managers: systemd and launchd, their unit files and their programs.

In: where the daemon and its file are. Out: units from ``templates/``, installed or
gone.
"""
