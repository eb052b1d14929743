"""``python -m wsclient``: the command line."""

import sys

from wsclient.cli import main

sys.exit(main())
