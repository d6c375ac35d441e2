"""The commands, and how they print.

``main.py`` lists them, ``commands/`` holds one file each, ``terminal/`` what a terminal
shows, ``service/`` systemd and launchd. A command imports its libraries itself, so that
``--help`` and ``status`` stay fast. Nothing may import this room.
"""
