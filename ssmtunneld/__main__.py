"""``python -m ssmtunneld``, and the entry point of the ``ssmtunneld`` command."""

from ssmtunneld.base.standard_files import ensure_standard_files

# First of all: what is imported next may open files.
ensure_standard_files()

from ssmtunneld.cli.main import main  # noqa: E402 - see above

if __name__ == "__main__":
    main()
