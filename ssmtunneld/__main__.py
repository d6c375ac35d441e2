"""``python -m ssmtunneld``, and the entry point of the ``ssmtunneld`` command."""

from ssmtunneld.cli.main import main

if __name__ == "__main__":
    main()
