# ruff: noqa
# It leaves folders behind that nobody may enter, one in the other.
# says: PermissionError|ended by itself|cannot be looked into

import os

for _ in range(40):
    os.mkdir("locked")
    os.chdir("locked")
    open("file", "w").close()
    os.chmod("file", 0)
for _ in range(40):
    os.chdir("..")
    os.chmod("locked", 0)
os._exit(0)
