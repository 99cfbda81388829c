"""`python -m dptcli` is `dpt`."""

import sys

from dptcli.cli import main

sys.exit(main())
