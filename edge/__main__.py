"""`python -m edge` is the `edge` command."""

import sys

from edge.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
