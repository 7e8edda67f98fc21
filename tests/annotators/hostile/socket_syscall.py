# ruff: noqa
# It asks the kernel for a socket, by the number of the call.
# says: denied: 1

import ctypes, platform

libc = ctypes.CDLL(None, use_errno=True)
number = {"x86_64": 41, "aarch64": 198}[platform.machine()]
if libc.syscall(number, 2, 1, 0) >= 0:
    raise SystemExit("ESCAPED")
raise SystemExit(f"denied: {ctypes.get_errno()}")
