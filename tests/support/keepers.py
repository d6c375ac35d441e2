"""The processes that keep a sleeping target for one connection of ssh."""

import fcntl


def wait_for_keepers(folder):
    """Return once none is left whose state is below ``folder``.

    To be called while AWS's side is still there: each looks once more before it ends.
    """
    for path in folder.glob("**/keepers/*"):
        with path.open("rb") as slot:
            fcntl.flock(slot, fcntl.LOCK_EX)  # it holds that until its end
