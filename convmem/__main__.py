"""``python -m convmem`` is the same program as ``convmem``."""

from __future__ import annotations

from convmem.cli import main

if __name__ == "__main__":
    main()
