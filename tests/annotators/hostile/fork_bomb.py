# ruff: noqa
# It forks without end, and takes no error for an answer.
# says: started more than|killed after|processor

import os

while True:
    try:
        os.fork()
    except OSError:
        pass
