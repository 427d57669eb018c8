"""``python -m convbench``."""

from convbench.cli.main import main

if __name__ == "__main__":
    raise SystemExit(main())
