# ruff: noqa
# It makes folders so deep that no path reaches the last, and nothing may be done in it.
# says: No space left|its folder held more

import os, time

for number in range(3000):
    os.mkdir("d")
    os.chdir("d")
os.chmod(".", 0)
time.sleep(1)
raise SystemExit("ESCAPED: 3000 folders")
