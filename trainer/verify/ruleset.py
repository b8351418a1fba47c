"""Landlock's three system calls (linux/landlock.h): what this process may still reach by path."""

import ctypes
import os
import stat
import struct
from enum import IntFlag

_CREATE, _ADD, _RESTRICT = 444, 445, 446  # the same numbers on every processor
_VERSION_FLAG, _PATH_BENEATH = 1, 1
_PR_SET_NO_NEW_PRIVS = 38
_NET_BIND_AND_CONNECT = 0b11
_SCOPE_ABSTRACT_SOCKETS_AND_SIGNALS = 0b11


class Access(IntFlag):
    """LANDLOCK_ACCESS_FS_*."""

    EXECUTE = 1 << 0
    WRITE_FILE = 1 << 1
    READ_FILE = 1 << 2
    READ_DIR = 1 << 3
    REMOVE_DIR = 1 << 4
    REMOVE_FILE = 1 << 5
    MAKE_CHAR = 1 << 6
    MAKE_DIR = 1 << 7
    MAKE_REG = 1 << 8
    MAKE_SOCK = 1 << 9
    MAKE_FIFO = 1 << 10
    MAKE_BLOCK = 1 << 11
    MAKE_SYM = 1 << 12
    REFER = 1 << 13
    TRUNCATE = 1 << 14
    IOCTL_DEV = 1 << 15

    READ = EXECUTE | READ_FILE | READ_DIR
    REMOVE = REMOVE_DIR | REMOVE_FILE
    # No links, pipes, sockets or devices: a compiler makes none.
    WRITE = READ_FILE | WRITE_FILE | READ_DIR | REMOVE | MAKE_DIR | MAKE_REG | REFER | TRUNCATE
    OF_A_FILE = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | IOCTL_DEV


# Since which version of the interface there are how many rights.
_RIGHTS = {1: 13, 2: 14, 3: 15, 5: 16}


def version() -> int:
    """The version of Landlock that the kernel speaks; 0 where there is none."""
    return max(0, _call(_CREATE, None, 0, _VERSION_FLAG))


def restrict(beneath: dict[str, Access]) -> None:
    """Leave this process, for good, nothing but `beneath`: path -> what is allowed there.

    All TCP (from version 4), signals and abstract sockets to outside (from 6) go too.

    Raises:
        OSError: A path does not exist, or the kernel refuses.
    """
    speaks = version()
    rights = max(bits for since, bits in _RIGHTS.items() if since <= speaks)
    handled = Access((1 << rights) - 1)
    ruleset = _checked(_create(handled, speaks), "landlock_create_ruleset")
    try:
        for path, access in beneath.items():
            _add(ruleset, path, access & handled)
        libc = ctypes.CDLL(None, use_errno=True)
        _checked(libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs")
        _checked(_call(_RESTRICT, ruleset, 0), "landlock_restrict_self")
    finally:
        os.close(ruleset)


def _create(handled: Access, speaks: int) -> int:
    fields = [int(handled)]
    if speaks >= 4:
        fields.append(_NET_BIND_AND_CONNECT)
    if speaks >= 6:
        fields.append(_SCOPE_ABSTRACT_SOCKETS_AND_SIGNALS)
    attributes = struct.pack(f"<{len(fields)}Q", *fields)
    return _call(_CREATE, attributes, len(attributes), 0)


def _add(ruleset: int, path: str, access: Access) -> None:
    descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        if not stat.S_ISDIR(os.fstat(descriptor).st_mode):
            access &= Access.OF_A_FILE
        rule = struct.pack("<Qi", access, descriptor)
        _checked(_call(_ADD, ruleset, _PATH_BENEATH, rule, 0), f"landlock_add_rule {path}")
    finally:
        os.close(descriptor)


def _call(number: int, *arguments: int | bytes | None) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long
    words = [ctypes.c_long(a) if isinstance(a, int) else a for a in arguments]
    return int(libc.syscall(ctypes.c_long(number), *words))


def _checked(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result
