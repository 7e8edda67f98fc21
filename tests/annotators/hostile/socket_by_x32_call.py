# ruff: noqa
# It asks for a socket by the numbers of the x32 ABI (x86).
# says: SIGSYS|another machine

import ctypes, platform

if platform.machine() != "x86_64":
    raise SystemExit("another machine")
libc = ctypes.CDLL(None, use_errno=True)
found = libc.syscall(0x40000000 | 41, 2, 1, 0)
raise SystemExit(f"ESCAPED: {found}")
