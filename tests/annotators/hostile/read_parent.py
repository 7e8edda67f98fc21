# ruff: noqa
# It reads the memory and the environment of whoever watches it.
# says: denied

import ctypes, os, platform

for process in ("self", "1", os.getppid(), "thread-self"):
    for name in ("environ", "mem", "maps", "cmdline", "root", "fd"):
        path = f"/proc/{process}/{name}"
        try:
            (os.listdir if name in ("root", "fd") else open)(path)
            raise SystemExit(f"ESCAPED: {path}")
        except OSError:
            pass
libc = ctypes.CDLL(None, use_errno=True)
number = {"x86_64": 310, "aarch64": 270}[platform.machine()]  # process_vm_readv
if libc.syscall(number, os.getppid(), None, 0, None, 0, 0) >= 0:
    raise SystemExit("ESCAPED")
raise SystemExit("denied")
