# ruff: noqa
# It asks for a socket by the system calls of 32-bit programs, in machine code (x86).
# says: SIGSYS|SIGSEGV|another machine

import ctypes, mmap, platform

if platform.machine() != "x86_64":
    raise SystemExit("another machine")
# push rbx; mov eax, 359; mov ebx, 2; mov ecx, 1; xor edx, edx; int 0x80; pop rbx; ret
code = b"\x53\xb8\x67\x01\x00\x00\xbb\x02\x00\x00\x00\xb9\x01\x00\x00\x00\x31\xd2\xcd\x80\x5b\xc3"
page = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
page.write(code)
call = ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(page)))
raise SystemExit(f"ESCAPED: {call()}")
