# ruff: noqa
# It calls itself until the stack is gone.
# says: SIGSEGV|RecursionError|MemoryError

import sys

sys.setrecursionlimit(10**9)


class Deep:
    def __repr__(self):
        return repr([self])


def answer():
    return repr(Deep())


answer()
