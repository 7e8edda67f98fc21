# ruff: noqa
# It looks for keys in its environment.
# says: nothing

import os

told = {"HOME", "TMPDIR", "LANG", "PATH", "LC_CTYPE", "PYTHONHASHSEED", "MALLOC_ARENA_MAX"}
raise SystemExit("ESCAPED: " + repr(dict(os.environ)) if set(os.environ) - told else "nothing")
