# ruff: noqa
# It asks for io_uring, by which sockets could be had without a call for one.
# says: denied: 1

import ctypes

libc = ctypes.CDLL(None, use_errno=True)
if libc.syscall(425, 4, ctypes.create_string_buffer(120)) >= 0:
    raise SystemExit("ESCAPED")
raise SystemExit(f"denied: {ctypes.get_errno()}")
