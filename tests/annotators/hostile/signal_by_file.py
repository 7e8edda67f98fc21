# ruff: noqa
# It has a pipe send SIGKILL to other processes when something is written to it.
# says: denied

import fcntl, os, signal

read, write = os.pipe()
for process in (os.getppid(), 1, os.getpid()):
    try:
        fcntl.fcntl(read, 10, signal.SIGKILL)
        fcntl.fcntl(read, 8, process)
        raise SystemExit("ESCAPED")
    except OSError:
        pass
raise SystemExit("denied")
