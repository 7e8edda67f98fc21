# ruff: noqa
# It takes memory until there is none.
# says: MemoryError

held = []
while True:
    held.append(bytearray(16 << 20))
