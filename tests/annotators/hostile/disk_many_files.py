# ruff: noqa
# It fills the disk with many files.
# says: No space left|its folder held more

import time

number = 0
while True:
    with open(f"file-{number}", "wb") as file:
        file.write(bytes(1 << 10))
    number += 1
    if number > 2000:
        time.sleep(1)
        if number > 2010:
            raise SystemExit("ESCAPED: 2000 files")
