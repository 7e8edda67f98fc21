# ruff: noqa
# It looks for files that were left open for it.
# says: nothing

import os

found = []
for number in range(5, 1024):
    try:
        os.fstat(number)
        found.append(number)
    except OSError:
        pass
raise SystemExit(f"ESCAPED: {found}" if found else "nothing")
