"""``python -m opsriver``: the command line without the installed script."""

from opsriver.cli import main

main()
