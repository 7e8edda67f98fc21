# ruff: noqa
# It ends with success as Python does.
# says: SystemExit: 0

import sys

sys.exit(0)
