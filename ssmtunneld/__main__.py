"""``python -m ssmtunneld``, and the entry point of the ``ssmtunneld`` command."""

from ssmtunneld.base.lean_imports import leave_out
from ssmtunneld.base.standard_files import ensure_standard_files

# First of all: what is imported next may open files.
ensure_standard_files()
# Its plugins are looked for in all installed packages: 15 ms.
leave_out("pydantic.plugin._loader", {"get_plugins": tuple})

try:
    from ssmtunneld.cli.main import main
except KeyboardInterrupt:
    raise SystemExit(130) from None  # before there is anybody to say so

if __name__ == "__main__":
    main()
