"""`python -m embedge`: the command line, for environments whose scripts are not on the path."""

from __future__ import annotations

from embedge.cli import main

__all__: list[str] = []

if __name__ == "__main__":
    main()
