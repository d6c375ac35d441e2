"""The first thing that the single file runs: unpack once, then start from there.

Compiled libraries cannot be imported from an archive. They are unpacked into a virtual
environment below this user's cache, named after a digest of all that is in it and of
the interpreter's path, and the command is run there. Pythons that are too old run this
too, and are told what is needed.
"""

import hashlib
import json
import os
import platform
import shutil
import stat
import sys
import tempfile
import zipfile

NAMES = {"Linux": "linux", "Darwin": "macos"}
# The name that this program was called as comes first, as everywhere.
START = "import sys; del sys.argv[0]; from ssmtunneld.__main__ import main; main()"


def refuse(text):
    """End with one line."""
    sys.stderr.write("ssmtunneld: " + text + "\n")
    sys.exit(1)


def check(about):
    """End unless this Python, on this machine, can use what is packed."""
    here = NAMES.get(platform.system(), platform.system()) + "-" + platform.machine()
    version = "%d.%d" % sys.version_info[:2]
    if platform.python_implementation() != "CPython" or version not in about["pythons"]:
        refuse(
            "this file needs CPython %s to %s, and this is %s %s; start it with "
            "another: python%s %s"
            % (
                about["pythons"][0],
                about["pythons"][-1],
                platform.python_implementation(),
                platform.python_version(),
                about["pythons"][-1],
                sys.argv[0],
            )
        )
    if here != about["platform"]:
        refuse("this file is for %s, and this is %s" % (about["platform"], here))
    if here.startswith("linux") and platform.libc_ver()[0] != "glibc":
        refuse("this file needs glibc 2.28 or newer: install ssmtunneld with pip here")
    return version


def own(path):
    """Make a folder that nobody else can write to, or end."""
    os.makedirs(path, 0o700, exist_ok=True)
    about = os.lstat(path)
    if not stat.S_ISDIR(about.st_mode) or about.st_uid != os.getuid():
        refuse("%s is not a folder of yours" % path)
    if about.st_mode & 0o022:
        refuse("others can write to %s: chmod go-w it" % path)


def unpack(archive, version, interpreter, folder):
    """Make a virtual environment for this version of Python, all or nothing."""
    parent = os.path.dirname(folder)
    new = tempfile.mkdtemp(prefix=".new-", dir=parent)
    site = os.path.join(new, "lib", "python" + version, "site-packages")
    try:
        for name in archive.namelist():
            first, _, rest = name.partition("/")
            if first in ("all", version):
                target = os.path.join(site, rest)
                os.makedirs(os.path.dirname(target), exist_ok=True)
                with archive.open(name) as source, open(target, "wb") as file:
                    shutil.copyfileobj(source, file)
        os.mkdir(os.path.join(new, "bin"))
        os.symlink(interpreter, os.path.join(new, "bin", "python"))
        with open(os.path.join(new, "pyvenv.cfg"), "w") as file:
            file.write("home = %s\n" % os.path.dirname(interpreter))
            file.write("include-system-site-packages = false\n")
        os.rename(new, folder)
    except OSError as error:
        shutil.rmtree(new, ignore_errors=True)
        # Another start of the same file was faster, perhaps.
        if not os.path.isdir(folder):
            refuse("cannot unpack into %s: %s" % (parent, error.strerror))


def main():
    """Start ssmtunneld."""
    this = os.path.abspath(sys.argv[0])
    interpreter = os.path.realpath(sys.executable)
    with zipfile.ZipFile(this) as archive:
        about = json.loads(archive.read("about.json").decode())
        version = check(about)
        cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
        parent = os.path.join(cache, "ssmtunneld")
        key = hashlib.sha256((about["digest"] + interpreter).encode()).hexdigest()
        folder = os.path.join(parent, "%s-%s" % (version, key[:16]))
        try:
            own(parent)
        except OSError as error:
            refuse("cannot write to %s: %s" % (parent, error.strerror))
        if not os.path.isdir(folder):
            unpack(archive, version, interpreter, folder)
        own(folder)
    python = os.path.join(folder, "bin", "python")
    os.execv(python, [python, "-I", "-c", START, this] + sys.argv[1:])


if __name__ == "__main__":
    main()
