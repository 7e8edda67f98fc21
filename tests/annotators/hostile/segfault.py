# ruff: noqa
# It reads where no memory is.
# says: SIGSEGV

import ctypes

ctypes.string_at(0)
