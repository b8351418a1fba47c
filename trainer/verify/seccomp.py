"""A seccomp filter: the system calls that no compiler and no test needs, refused.

The program is classic BPF, assembled here; layout and constants are those of linux/seccomp.h,
linux/filter.h and linux/audit.h. Everything else is allowed: the filter narrows the kernel's
attack surface, and holds what neither namespaces nor Landlock do.
"""

import ctypes
import errno
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

# BPF: load a word, jump where (A == k), where (A >= k), A &= k, return k.
_LOAD, _JUMP_EQUAL, _JUMP_FROM, _AND, _RETURN = 0x20, 0x15, 0x35, 0x54, 0x06
_ALLOW, _ERRNO, _KILL = 0x7FFF0000, 0x00050000, 0x80000000
# Offsets in struct seccomp_data, little-endian: the low word of an argument comes first.
_NUMBER, _ARCH, _ARGUMENTS = 0, 4, 16
_X32 = 0x40000000

_PR_SET_SECCOMP, _MODE_FILTER = 22, 2
_NEW_NAMESPACES = 0x7E020000  # CLONE_NEW{USER,PID,NET,IPC,UTS,CGROUP,NS}
_O_ACCMODE, _O_TRUNC = 0o3, 0o1000
_F_SETOWN, _F_SETSIG, _F_SETOWN_EX = 8, 10, 15


class _Machine(NamedTuple):
    """A processor: its AUDIT_ARCH, and which column of the table of numbers is its own."""

    arch: int
    column: int


_MACHINES = {"x86_64": _Machine(0xC000003E, 0), "aarch64": _Machine(0xC00000B7, 1)}


class _Rule(NamedTuple):
    """Refuse a system call: always, or where (argument & mask) is `value`, or is not.

    Attributes:
        name: Of the call.
        error: What it fails with.
        argument: Which one to look at; None: none.
        mask, value: How to look at it.
        equal: Refuse where it is `value`; else where it is not.
    """

    name: str
    error: int = errno.EPERM
    argument: int | None = None
    mask: int = 0xFFFFFFFF
    value: int = 0
    equal: bool = True


Numbers = dict[str, tuple[int, int | None]]
# On x86_64 and aarch64; the latter never had some of the older calls.
_REFUSED: Numbers = {
    # other processes
    "ptrace": (101, 117), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271),
    "kcmp": (312, 272), "pidfd_getfd": (438, 438), "move_pages": (279, 239),
    "migrate_pages": (256, 238),
    # namespaces and mounts
    "unshare": (272, 97), "setns": (308, 268), "mount": (165, 40), "umount2": (166, 39),
    "pivot_root": (155, 41), "chroot": (161, 51), "open_tree": (428, 428),
    "move_mount": (429, 429), "fsopen": (430, 430), "fsconfig": (431, 431), "fsmount": (432, 432),
    "fspick": (433, 433), "mount_setattr": (442, 442),
    # where the kernel's holes have been
    "bpf": (321, 280), "perf_event_open": (298, 241), "userfaultfd": (323, 282),
    "io_uring_setup": (425, 425), "io_uring_enter": (426, 426), "io_uring_register": (427, 427),
    "add_key": (248, 217), "request_key": (249, 218), "keyctl": (250, 219),
    "name_to_handle_at": (303, 264), "open_by_handle_at": (304, 265), "fanotify_init": (300, 262),
    "modify_ldt": (154, None), "iopl": (172, None), "ioperm": (173, None),
    # the machine itself
    "kexec_load": (246, 104), "kexec_file_load": (320, 294), "init_module": (175, 105),
    "finit_module": (313, 273), "delete_module": (176, 106), "reboot": (169, 142),
    "swapon": (167, 224), "swapoff": (168, 225), "acct": (163, 89), "quotactl": (179, 60),
    "syslog": (103, 116), "settimeofday": (164, 170), "clock_settime": (227, 112),
    "adjtimex": (159, 171), "clock_adjtime": (305, 266), "sethostname": (170, 161),
    "setdomainname": (171, 162),
    # the network, and sockets in the file system
    "socket": (41, 198),
}  # fmt: skip
# Refused too where process ids, IPC and paths are the host's.
_REFUSED_SHARING: Numbers = {
    # signals to, and limits of, processes of the same user
    "tkill": (200, 130), "rt_sigqueueinfo": (129, 138), "rt_tgsigqueueinfo": (297, 240),
    "pidfd_send_signal": (424, 424), "setpriority": (141, 140), "ioprio_set": (251, 30),
    "sched_setaffinity": (203, 122), "sched_setscheduler": (144, 119),
    "sched_setparam": (142, 118), "sched_setattr": (314, 274),
    # files by their path, which Landlock does not look at
    "chmod": (90, None), "fchmodat": (268, 53), "fchmodat2": (452, 452), "chown": (92, None),
    "lchown": (94, None), "fchownat": (260, 54), "utime": (132, None), "utimes": (235, None),
    "futimesat": (261, None), "utimensat": (280, 88), "setxattr": (188, 5), "lsetxattr": (189, 6),
    "removexattr": (197, 14), "lremovexattr": (198, 15), "setxattrat": (463, 463),
    "removexattrat": (466, 466), "truncate": (76, 45), "inotify_init": (253, None),
    "inotify_init1": (294, 26),
    # System V and POSIX objects that have no path
    "shmget": (29, 194), "shmctl": (31, 195), "shmat": (30, 196), "semget": (64, 190),
    "semop": (65, 193), "semctl": (66, 191), "semtimedop": (220, 192), "msgget": (68, 186),
    "msgsnd": (69, 189), "msgrcv": (70, 188), "msgctl": (71, 187), "mq_open": (240, 180),
    "mq_unlink": (241, 181),
}  # fmt: skip
# Refused for some arguments, or with an error of its own: see the rules.
_LOOKED_INTO: Numbers = {
    "clone": (56, 220), "clone3": (435, 435), "kill": (62, 129), "tgkill": (234, 131),
    "prlimit64": (302, 261), "fcntl": (72, 25), "open": (2, None), "openat": (257, 56),
    "openat2": (437, 437),
}  # fmt: skip
_NUMBERS = {**_REFUSED, **_REFUSED_SHARING, **_LOOKED_INTO}

_ALWAYS = (
    # glibc falls back to clone, whose flags can be seen; clone3's lie behind a pointer.
    _Rule("clone3", errno.ENOSYS),
    _Rule("clone", argument=0, mask=_NEW_NAMESPACES, equal=False),
    *(_Rule(name) for name in _REFUSED),
)


def _sharing(pid: int) -> tuple[_Rule, ...]:
    """What more to refuse to process `pid` where the host's processes and paths are its own.

    It may signal itself, which is what `abort` does, and set its own limits.
    """
    return (
        _Rule("kill", argument=0, value=pid, equal=False),
        _Rule("tgkill", argument=0, value=pid, equal=False),
        _Rule("prlimit64", argument=0, value=0, equal=False),
        *(_Rule("fcntl", argument=1, value=n) for n in (_F_SETOWN, _F_SETSIG, _F_SETOWN_EX)),
        # Before its third version Landlock let a file be truncated that was opened for reading.
        _Rule("open", argument=1, mask=_O_ACCMODE | _O_TRUNC, value=_O_TRUNC),
        _Rule("openat", argument=2, mask=_O_ACCMODE | _O_TRUNC, value=_O_TRUNC),
        _Rule("openat2", errno.ENOSYS),
        *(_Rule(name) for name in _REFUSED_SHARING),
    )


def program(sharing_as: int | None = None, machine: str = "") -> bytes | None:
    """The filter as an array of struct sock_filter; None for a processor it is not written for.

    Args:
        sharing_as: The process id of the program, where it sees the host's processes and files;
            None where namespaces keep these from it.
        machine: As uname says it; by default this one's.
    """
    target = _MACHINES.get(machine or os.uname().machine)
    if target is None:
        return None
    rules = _ALWAYS if sharing_as is None else (*_ALWAYS, *_sharing(sharing_as))
    code = [
        (_LOAD, 0, 0, _ARCH),
        (_JUMP_EQUAL, 1, 0, target.arch),
        (_RETURN, 0, 0, _KILL),
        (_LOAD, 0, 0, _NUMBER),
        # The same calls by other numbers; those of aarch64 end far below.
        (_JUMP_FROM, 0, 1, _X32),
        (_RETURN, 0, 0, _ERRNO | errno.EPERM),
    ]
    for rule in rules:
        number = _NUMBERS[rule.name][target.column]
        if number is not None:
            code += _compare(rule, number)
    code.append((_RETURN, 0, 0, _ALLOW))
    return b"".join(struct.pack("<HBBI", *instruction) for instruction in code)


def _compare(rule: _Rule, number: int) -> list[tuple[int, int, int, int]]:
    """One rule; the call's number is loaded before and after."""
    refuse = (_RETURN, 0, 0, _ERRNO | rule.error)
    if rule.argument is None:
        return [(_JUMP_EQUAL, 0, 1, number), refuse]
    hit, miss = (0, 1) if rule.equal else (1, 0)
    return [
        (_JUMP_EQUAL, 0, 5, number),
        (_LOAD, 0, 0, _ARGUMENTS + 8 * rule.argument),
        (_AND, 0, 0, rule.mask),
        (_JUMP_EQUAL, hit, miss, rule.value),
        refuse,
        (_LOAD, 0, 0, _NUMBER),
    ]


@contextmanager
def as_file(code: bytes) -> Iterator[int]:
    """A descriptor that reads `code`, as bubblewrap wants it."""
    descriptor = os.memfd_create("seccomp")
    try:
        os.write(descriptor, code)
        os.lseek(descriptor, 0, os.SEEK_SET)
        yield descriptor
    finally:
        os.close(descriptor)


class _Program(ctypes.Structure):
    """struct sock_fprog."""

    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def install(code: bytes) -> None:
    """Filter this process from now on, and all that come from it; no_new_privs must be set.

    Raises:
        OSError: The kernel does not take it.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    fprog = _Program(len(code) // 8, code)
    if libc.prctl(_PR_SET_SECCOMP, _MODE_FILTER, ctypes.byref(fprog), 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"seccomp: {os.strerror(number)}")
