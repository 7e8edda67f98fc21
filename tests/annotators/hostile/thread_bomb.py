# ruff: noqa
# It starts threads without end.
# says: MemoryError|can't start new thread

import threading, time

while True:
    threading.Thread(target=time.sleep, args=(3600,), daemon=True).start()
