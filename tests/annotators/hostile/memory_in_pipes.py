# ruff: noqa
# It puts memory where no process has it: in pipes as large as they may be.
# says: Too many open files

import fcntl, os

held = 0
while held < 1 << 30:
    _, write = os.pipe()
    try:
        fcntl.fcntl(write, 1031, 1 << 20)
    except PermissionError:
        pass
    os.set_blocking(write, False)
    held += os.write(write, bytes(1 << 20))
raise SystemExit("ESCAPED")
