# ruff: noqa
# It puts another program in its place, which ends with success.
# says: ended by itself

import os

os.execv("/usr/bin/env", ["env", "true"])
