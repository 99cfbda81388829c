"""`python -m dptcli` is `dpt`."""

from dptcli.cli import run

run()
