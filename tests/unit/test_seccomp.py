"""The filter's program, run by an interpreter of classic BPF."""

import errno
import re
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.verify import seccomp

ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
COLUMN = {"x86_64": 0, "aarch64": 1}
ALLOW, KILL = 0x7FFF0000, 0x80000000
PID = 4242


def judge(machine: str, number: int, *arguments: int, pid: int | None = None, arch: int = 0) -> int:
    """What the kernel would do with a system call: SECCOMP_RET_*."""
    code = seccomp.program(pid, machine)
    assert code is not None
    six = (*arguments, *[0] * (6 - len(arguments)))
    data = struct.pack("<IIQ6Q", number, arch or ARCH[machine], 0, *six)
    instructions = list(struct.iter_unpack("<HBBI", code))
    at = accumulator = 0
    while True:
        operation, if_true, if_false, k = instructions[at]
        at += 1
        match operation:
            case 0x20:
                accumulator = struct.unpack_from("<I", data, k)[0]
            case 0x15:
                at += if_true if accumulator == k else if_false
            case 0x35:
                at += if_true if accumulator >= k else if_false
            case 0x54:
                accumulator &= k
            case 0x06:
                return k
            case _:
                raise AssertionError(operation)


def refused(error: int = errno.EPERM) -> int:
    return 0x00050000 | error


MACHINES = pytest.mark.parametrize("machine", list(ARCH))


@MACHINES
def test_what_is_refused_always_and_what_among_the_hosts_processes(machine: str) -> None:
    for table, pid in ((seccomp._REFUSED, None), (seccomp._REFUSED, PID)):
        for name, numbers in table.items():
            if (number := numbers[COLUMN[machine]]) is not None:
                assert judge(machine, number, pid=pid) == refused(), name
    for name, numbers in seccomp._REFUSED_SHARING.items():
        if (number := numbers[COLUMN[machine]]) is not None:
            assert judge(machine, number, pid=PID) == refused(), name
            assert judge(machine, number) == ALLOW, name


@MACHINES
@given(st.integers(0, 600), st.lists(st.integers(0, 2**64 - 1), max_size=6))
def test_nothing_else_is_refused(machine: str, number: int, arguments: list[int]) -> None:
    known = {numbers[COLUMN[machine]] for numbers in seccomp._NUMBERS.values()}
    if number not in known:
        assert judge(machine, number, *arguments) == ALLOW
        assert judge(machine, number, *arguments, pid=PID) == ALLOW


@MACHINES
def test_clone_makes_processes_and_threads_but_no_namespaces(machine: str) -> None:
    clone, clone3 = (seccomp._NUMBERS[name][COLUMN[machine]] for name in ("clone", "clone3"))
    assert clone is not None
    assert clone3 is not None
    for flags in (17, 0x3D0F00, 0x4111):  # fork, a thread, vfork
        assert judge(machine, clone, flags) == ALLOW
    for namespace in (0x10000000, 0x20000000, 0x40000000, 0x00020000, 0x02000000):
        assert judge(machine, clone, namespace | 17) == refused()
    assert judge(machine, clone3) == refused(errno.ENOSYS)


@MACHINES
@pytest.mark.parametrize(
    ("name", "allowed", "forbidden"),
    [
        ("kill", [(PID, 9)], [(1, 9), (PID + 1, 9), (2**32 - 1, 9), (0, 9)]),
        ("tgkill", [(PID, 1, 6)], [(1, 1, 6)]),
        ("prlimit64", [(0, 7)], [(PID, 7), (1, 7)]),
        ("fcntl", [(3, 1), (3, 4)], [(3, 8), (3, 10), (3, 15)]),
        ("openat", [(0, 0, 0), (0, 0, 0o1001), (0, 0, 0o102)], [(0, 0, 0o1000), (0, 0, 0o3001000)]),
    ],
)
def test_arguments_decide(
    machine: str, name: str, allowed: list[tuple[int, ...]], forbidden: list[tuple[int, ...]]
) -> None:
    number = seccomp._NUMBERS[name][COLUMN[machine]]
    assert number is not None
    for arguments in allowed:
        assert judge(machine, number, *arguments, pid=PID) == ALLOW, arguments
    for arguments in forbidden:
        assert judge(machine, number, *arguments, pid=PID) == refused(), arguments
        assert judge(machine, number, *arguments) == ALLOW, arguments


@MACHINES
def test_the_calls_of_another_architecture_end_the_process(machine: str) -> None:
    assert judge(machine, 20, arch=0x40000003) == KILL
    assert judge(machine, 0x40000000 + 41) == refused()


def test_there_is_none_for_other_processors() -> None:
    assert seccomp.program(machine="riscv64") is None


@pytest.mark.parametrize(
    ("machine", "header"),
    [
        ("x86_64", "/usr/include/x86_64-linux-gnu/asm/unistd_64.h"),
        ("aarch64", "/usr/include/asm-generic/unistd.h"),
    ],
)
def test_the_numbers_are_the_kernels(machine: str, header: str) -> None:
    if not Path(header).exists():
        pytest.skip(f"no {header}: apt install linux-libc-dev")
    defined = re.findall(r"#define __NR(?:3264)?_(\w+)\s+(\d+)", Path(header).read_text())
    kernel = {name: int(number) for name, number in defined}
    # aarch64 calls it by the name that 32-bit processors needed.
    kernel.setdefault("prlimit64", kernel.get("prlimit", -1))
    for name, numbers in seccomp._NUMBERS.items():
        number = numbers[COLUMN[machine]]
        # What the header does not know yet is newer than it.
        if number is None or number > max(kernel.values()):
            assert kernel.get(name) is None, name
        else:
            assert kernel[name] == number, name
