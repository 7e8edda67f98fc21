# ruff: noqa
# It asks for a socket by an instruction of its own, with no library between it and the kernel (x86).
# says: denied: -1|another machine

import ctypes, mmap, platform

if platform.machine() != "x86_64":
    raise SystemExit("another machine")
# mov eax, 41; mov edi, 2; mov esi, 1; xor edx, edx; syscall; ret
code = b"\xb8\x29\x00\x00\x00\xbf\x02\x00\x00\x00\xbe\x01\x00\x00\x00\x31\xd2\x0f\x05\xc3"
page = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
page.write(code)
found = ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(page)))()
raise SystemExit("ESCAPED" if found >= 0 else f"denied: {found}")
