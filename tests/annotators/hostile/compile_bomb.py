# ruff: noqa
# It is small, and large to compile.
# says: MemoryError|RecursionError|SyntaxError|processor|SIGSEGV|killed after

eval("-" * 3_000_000 + "1")
raise SystemExit("ESCAPED")
