"""A seccomp filter, assembled by hand: what the kernel refuses to the program and to all that it starts.

The filter allows what it does not name, save calls of other ABIs (the process is killed) and calls that are newer than
the list (ENOSYS), so that a new kernel opens no new door. Network: no socket can be made, connected, bound or given an
address; a pair of connected Unix sockets may be, which asyncio needs for itself.
"""

from __future__ import annotations

import ctypes
import errno
import struct

from .kernel import (
    CLONE_NEWIPC,
    CLONE_NEWNET,
    CLONE_NEWNS,
    CLONE_NEWPID,
    CLONE_NEWUSER,
    CLONE_NEWUTS,
    MACHINE,
    PR_SET_SECCOMP,
    prctl,
)

_ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_PLACE = {"x86_64": 0, "aarch64": 1}
_NEWEST = 450
_X32 = 0x40000000

# The numbers of x86_64 and aarch64; None where a machine has no such call.
_DENIED: dict[str, tuple[int | None, int | None]] = {
    # network
    "socket": (41, 198),
    "connect": (42, 203),
    "accept": (43, 202),
    "accept4": (288, 242),
    "sendmsg": (46, 211),
    "sendmmsg": (307, 269),
    "bind": (49, 200),
    "listen": (50, 201),
    # other processes
    "ptrace": (101, 117),
    "tkill": (200, 130),
    "rt_sigqueueinfo": (129, 138),
    "rt_tgsigqueueinfo": (297, 240),
    "pidfd_send_signal": (424, 424),
    "pidfd_open": (434, 434),
    "pidfd_getfd": (438, 438),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "process_madvise": (440, 440),
    "process_mrelease": (448, 448),
    "kcmp": (312, 272),
    "setpriority": (141, 140),
    "sched_setaffinity": (203, 122),
    "sched_setscheduler": (144, 119),
    "sched_setparam": (142, 118),
    "sched_setattr": (314, 274),
    "ioprio_set": (251, 30),
    "migrate_pages": (256, 238),
    "move_pages": (279, 239),
    # mounts and namespaces
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fspick": (433, 433),
    "mount_setattr": (442, 442),
    "setns": (308, 268),
    "unshare": (272, 97),
    # the machine
    "swapon": (167, 224),
    "swapoff": (168, 225),
    "reboot": (169, 142),
    "sethostname": (170, 161),
    "setdomainname": (171, 162),
    "init_module": (175, 105),
    "delete_module": (176, 106),
    "finit_module": (313, 273),
    "kexec_load": (246, 104),
    "kexec_file_load": (320, 294),
    "acct": (163, 89),
    "quotactl": (179, 60),
    "quotactl_fd": (443, 443),
    "syslog": (103, 116),
    "settimeofday": (164, 170),
    "clock_settime": (227, 112),
    "adjtimex": (159, 171),
    "clock_adjtime": (305, 266),
    "iopl": (172, None),
    "ioperm": (173, None),
    "modify_ldt": (154, None),
    "uselib": (134, None),
    "personality": (135, 92),
    "vhangup": (153, 58),
    "sync": (162, 81),
    "syncfs": (306, 267),
    # who else uses the files that it may read
    "inotify_init": (253, None),
    "inotify_init1": (294, 26),
    # parts of the kernel in which most of its holes were
    "bpf": (321, 280),
    "userfaultfd": (323, 282),
    "perf_event_open": (298, 241),
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "keyctl": (250, 219),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265),
    "fanotify_init": (300, 262),
    "fanotify_mark": (301, 263),
    # memory that is no process's own: it would stay, or count for nobody's limit
    "shmget": (29, 194),
    "shmat": (30, 196),
    "shmctl": (31, 195),
    "semget": (64, 190),
    "semop": (65, 193),
    "semtimedop": (220, 192),
    "semctl": (66, 191),
    "msgget": (68, 186),
    "msgsnd": (69, 189),
    "msgrcv": (70, 188),
    "msgctl": (71, 187),
    "mq_open": (240, 180),
    "mq_unlink": (241, 181),
    "memfd_create": (319, 279),
    "memfd_secret": (447, 447),
}
# Landlock does not cover these: beside it they are denied to a program that runs as the user whose files it may see.
_OF_MODES: dict[str, tuple[int | None, int | None]] = {
    "chmod": (90, None),
    "fchmod": (91, 52),
    "fchmodat": (268, 53),
    "chown": (92, None),
    "fchown": (93, 55),
    "lchown": (94, None),
    "fchownat": (260, 54),
    "utime": (132, None),
    "utimes": (235, None),
    "futimesat": (261, None),
    "utimensat": (280, 88),
    "setxattr": (188, 5),
    "lsetxattr": (189, 6),
    "fsetxattr": (190, 7),
    "removexattr": (197, 14),
    "lremovexattr": (198, 15),
    "fremovexattr": (199, 16),
}
_CLONE, _CLONE3 = (56, 220), (435, 435)
_SOCKETPAIR, _SENDTO, _PRLIMIT = (53, 199), (44, 206), (302, 261)
_KILL, _TGKILL = (62, 129), (234, 131)
_IOCTL, _FCNTL = (16, 29), (72, 25)
_IOCTLS = (0x5412, 0x8901, 0x8902)
"""TIOCSTI, FIOSETOWN, SIOCSPGRP."""
_FCNTLS = (8, 15, 1024, 1026)
"""F_SETOWN, F_SETOWN_EX (by which a file sends any signal to any process), F_SETLEASE, F_NOTIFY."""

_LOAD, _JEQ, _JGE, _JGT, _JSET, _RETURN = 0x20, 0x15, 0x35, 0x25, 0x45, 0x06
_ALLOW, _KILL_PROCESS, _ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
_NR, _ARCH, _ARGUMENTS = 0, 4, 16

_NAMESPACES = CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNET | 0x02000000

_Line = tuple[int, int, int, int]


def known() -> bool:
    """Whether there are numbers for this machine's calls."""
    return MACHINE in _ARCHITECTURES


def filter_lines(machine: str, only_to: int | None = None, *, keep_modes: bool = False) -> list[_Line]:
    """The filter, one (code, jump if true, jump if false, value) a line.

    Args:
        machine: x86_64 or aarch64.
        only_to: the one process that signals may be sent to; None: any, where a PID namespace holds what there is.
        keep_modes: whether it may change no file's mode, owner, times or attributes.
    """
    place = _PLACE[machine]
    refuse = (_RETURN, 0, 0, _ERRNO | errno.EPERM)
    unknown = (_RETURN, 0, 0, _ERRNO | errno.ENOSYS)
    lines: list[_Line] = [
        (_LOAD, 0, 0, _ARCH),
        (_JEQ, 1, 0, _ARCHITECTURES[machine]),
        (_RETURN, 0, 0, _KILL_PROCESS),
        (_LOAD, 0, 0, _NR),
    ]
    if machine == "x86_64":
        lines += [(_JGE, 0, 1, _X32), (_RETURN, 0, 0, _KILL_PROCESS)]
    lines += [(_JGT, 0, 1, _NEWEST), unknown, (_JEQ, 0, 1, _CLONE3[place]), unknown]
    for numbers in (*_DENIED.values(), *(_OF_MODES.values() if keep_modes else ())):
        if (number := numbers[place]) is not None:
            lines += [(_JEQ, 0, 1, number), refuse]
    # Each of these ends in a return, or jumps past itself with the number still loaded.
    lines += _on(_CLONE[place], [_word(0), (_JSET, 0, 1, _NAMESPACES), refuse])
    lines += _on(_SOCKETPAIR[place], [_word(0), (_JEQ, 1, 0, 1), refuse])  # AF_UNIX
    lines += _on(_SENDTO[place], [_word(4), (_JEQ, 0, 2, 0), _word(4, high=True), (_JEQ, 1, 0, 0), refuse])
    lines += _on(_PRLIMIT[place], [_word(0), (_JEQ, 1, 0, 0), refuse])  # of other processes
    for numbers, commands in ((_IOCTL, _IOCTLS), (_FCNTL, _FCNTLS)):
        refused = [line for command in commands for line in ((_JEQ, 0, 1, command), refuse)]
        lines += _on(numbers[place], [_word(1), *refused])
    if only_to is not None:
        for numbers in (_KILL, _TGKILL):
            lines += _on(numbers[place], [_word(0), (_JEQ, 1, 0, only_to), refuse])
    return [*lines, (_RETURN, 0, 0, _ALLOW)]


def _word(argument: int, *, high: bool = False) -> _Line:
    """Load half of an argument; both machines are little-endian."""
    return (_LOAD, 0, 0, _ARGUMENTS + 8 * argument + 4 * high)


def _on(number: int, lines: list[_Line]) -> list[_Line]:
    """Lines that are for one call only; if they refuse nothing, it is allowed."""
    body = [*lines, (_RETURN, 0, 0, _ALLOW)]
    return [(_JEQ, 0, len(body), number), *body]


def install(only_to: int | None = None, *, keep_modes: bool = False) -> None:
    """Put the filter before all that this process does from now on. It cannot be taken back; see `filter_lines`.

    Raises:
        OSError: the kernel has no seccomp filters.
    """
    lines = filter_lines(MACHINE, only_to, keep_modes=keep_modes)
    code = b"".join(struct.pack("<HBBI", *line) for line in lines)
    kept = ctypes.create_string_buffer(code, len(code))
    program = struct.pack("<HxxxxxxQ", len(lines), ctypes.addressof(kept))
    prctl(PR_SET_SECCOMP, 2, ctypes.c_char_p(program))
