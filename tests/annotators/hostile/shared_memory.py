# ruff: noqa
# It leaves memory behind that belongs to no process.
# says: denied: 1

import ctypes

libc = ctypes.CDLL(None, use_errno=True)
if libc.shmget(4711, 1 << 20, 0o1666) >= 0:
    raise SystemExit("ESCAPED")
raise SystemExit(f"denied: {ctypes.get_errno()}")
