# ruff: noqa
# It hides memory in a file that is on no disk.
# says: Operation not permitted|PermissionError

import os

hidden = os.memfd_create("hidden")
while True:
    os.write(hidden, bytes(1 << 20))
