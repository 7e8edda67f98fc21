# ruff: noqa
# It sleeps for an hour.
# says: killed after

import time

time.sleep(3600)
