"""The files of ``systemd/``: our templates, filled in for the usual paths.

``python -m tests.packaging.units`` (``make units``) writes them after a change.
"""

from pathlib import Path

from ssmtunneld.cli.service import units

FOLDER = Path(__file__).parents[2] / "systemd"

_SYSTEM = """\
# System service: one daemon for the machine, with its role's or its own credentials.
#
#   install -m 644 -D my.toml /etc/ssmtunneld/config.toml
#   ssmtunneld service install --system
# or
#   install -m 644 systemd/ssmtunneld.service /etc/systemd/system/
#   systemctl enable --now ssmtunneld"""
_INSTANCES = """\
# System service, once for each file: teams whose credentials must not meet. Each has a
# user, a state directory and /run/ssmtunneld-NAME of its own.
#
#   install -m 644 systemd/ssmtunneld@.service /etc/systemd/system/
#   install -m 644 -D my.toml /etc/ssmtunneld/NAME.toml
#   systemctl enable --now ssmtunneld@NAME"""
_USER = """\
# User service: your own daemon, with your ~/.aws and your SSO logins.
#
#   ssmtunneld service install
# or
#   mkdir -p ~/.config/systemd/user
#   cp systemd/ssmtunneld-user.service ~/.config/systemd/user/ssmtunneld.service
#   systemctl --user enable --now ssmtunneld
#
#   loginctl enable-linger        # to keep it while you are logged out"""
_AGENT = """\
launchd agent of one user. Write it with
       ssmtunneld service install
     or replace YOU, then:
       cp systemd/io.github.ssmtunneld.plist ~/Library/LaunchAgents/
       launchctl bootstrap gui/$UID ~/Library/LaunchAgents/io.github.ssmtunneld.plist"""

_CONFIG = "/etc/ssmtunneld/config.toml"
_MAC = "/Users/YOU"


def examples():
    """Return the files of ``systemd/`` that have a template, by their names."""
    everybody = ["/usr/local/bin/ssmtunneld"]
    own = ["%h/.local/bin/ssmtunneld"]
    mac_config = f"{_MAC}/Library/Application Support/ssmtunneld/config.toml"
    return {
        "ssmtunneld.service": units.system_unit(everybody, _CONFIG, head=_SYSTEM),
        "ssmtunneld@.service": units.system_unit(
            everybody, "/etc/ssmtunneld/%i.toml", head=_INSTANCES, instance="%i"
        ),
        # The specifiers of a unit that is copied by hand stay specifiers.
        "ssmtunneld-user.service": units.user_unit(
            own, "%E/ssmtunneld/config.toml", head=_USER
        ).replace("%%", "%"),
        "io.github.ssmtunneld.plist": units.agent(
            [f"{_MAC}/.local/bin/ssmtunneld", "run", "--config", mac_config],
            f"{_MAC}/Library/Logs/ssmtunneld.log",
            head=_AGENT,
        ),
    }


if __name__ == "__main__":
    for name, text in examples().items():
        (FOLDER / name).write_text(text, encoding="utf-8")
