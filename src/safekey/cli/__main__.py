"""`python -m safekey.cli`, the same as `safekey`."""

import sys

from safekey.cli.app import main

if __name__ == "__main__":
    sys.exit(main())
