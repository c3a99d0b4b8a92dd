"""Makes `python -m qpipe` the same as the console script `qpipe`."""

from __future__ import annotations

import sys

from qpipe.cli import main

if __name__ == "__main__":
    sys.exit(main())
