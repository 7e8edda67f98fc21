# ruff: noqa
# It fills the disk with one file.
# says: File too large|No space left

with open("large", "wb") as file:
    while True:
        file.write(bytes(1 << 20))
