"""Lets ``python -m bmz`` do what the command ``bmz`` does."""

from bmz.cli.main import main

if __name__ == "__main__":
    main()
