# ruff: noqa
# It removes the folder it is in, and goes on.
# says: answer|denied

import os, shutil

here = os.getcwd()
open("file", "w").close()
shutil.rmtree(here, ignore_errors=True)
try:
    os.rmdir(here)
except OSError:
    raise SystemExit("denied")
