# ruff: noqa
# It kills whoever watches it.
# says: PermissionError|Operation not permitted|ignored

import os, signal, time

for number in (signal.SIGTERM, signal.SIGSTOP, signal.SIGKILL):
    os.kill(os.getppid(), number)
time.sleep(0.3)
raise SystemExit("ignored")
