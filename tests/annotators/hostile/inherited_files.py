# ruff: noqa
# It looks for files that were left open to it.
# says: nothing

import os


def is_open(number):
    try:
        return bool(os.fstat(number))
    except OSError:
        return False


found = [number for number in range(65536) if is_open(number)]
raise SystemExit("nothing" if found == [0, 1, 2, 3] else f"ESCAPED: {found}")
