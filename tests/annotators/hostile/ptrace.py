# ruff: noqa
# It takes control of whoever watches it.
# says: denied: 1

import ctypes, os

libc = ctypes.CDLL(None, use_errno=True)
for process in (os.getppid(), 1):
    if libc.ptrace(16, process, 0, 0) == 0:  # PTRACE_ATTACH
        raise SystemExit("ESCAPED")
raise SystemExit(f"denied: {ctypes.get_errno()}")
