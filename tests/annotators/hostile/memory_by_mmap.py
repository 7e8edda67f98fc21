# ruff: noqa
# It takes memory from the kernel, past Python.
# says: Cannot allocate memory|MemoryError

import mmap

held = []
while True:
    held.append(mmap.mmap(-1, 64 << 20))
