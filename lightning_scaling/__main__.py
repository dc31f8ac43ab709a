"""``python -m lightning_scaling``: the command line, where its script is not on the path."""

from lightning_scaling.cli import main

if __name__ == "__main__":
    main()
