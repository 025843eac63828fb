"""``python -m senna_autoprune`` is ``senna-prune``."""

from senna_autoprune.cli import main

if __name__ == "__main__":
    main()
