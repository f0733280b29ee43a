"""``python -m logbroker``: the same as the command ``logbroker``."""

from logbroker.cli.main import main

main()
