"""`python -m genrep` is the command `genrep`."""

import sys

from genrep.cli.main import main

sys.exit(main())
