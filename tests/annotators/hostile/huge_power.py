# ruff: noqa
# It computes a number of 370 million digits, in C, where no signal handler runs.
# says: of the processor|killed after|MemoryError

import signal

signal.signal(signal.SIGXCPU, lambda *_: None)
nine = 9
answer = lambda: nine**nine**nine
answer()
