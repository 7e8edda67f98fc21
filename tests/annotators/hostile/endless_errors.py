# ruff: noqa
# It prints one huge text to standard error.
# says: wrote more than

import sys

sys.stderr.write("x" * (64 << 20))
raise SystemExit("ESCAPED")
