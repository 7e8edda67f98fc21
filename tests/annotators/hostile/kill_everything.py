# ruff: noqa
# It kills every process that there is.
# says: ProcessLookupError|PermissionError|Operation not permitted|alone

import os, signal, time

os.kill(-1, signal.SIGKILL)
time.sleep(0.3)
raise SystemExit("alone")
