"""The system-call filter of the cell: a seccomp program that forbids what a test program has no use for.

    call(29)   shmget          -> "operation not permitted"
    call(9)    mmap, shared and anonymous -> the same; any other mmap is allowed
    call(435)  clone3          -> "no such call", so that the C library takes clone, whose flags can be seen

What is forbidden: memory that the limit on address space does not see (shared memory, memfd, message queues), the
kernel's keyrings, reading or tracing other processes, namespaces and mounts, and parts of the kernel that are known for
their faults (bpf, io_uring, userfaultfd, modules, ...).
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Iterator

# Name: (number on x86-64, number on the machines that share the generic table); None where there is no such call.
_FORBIDDEN: dict[str, tuple[int | None, int | None]] = {
    "shmget": (29, 194), "shmat": (30, 196), "shmctl": (31, 195), "shmdt": (67, 197),
    "semget": (64, 190), "semop": (65, 193), "semctl": (66, 191), "semtimedop": (220, 192),
    "msgget": (68, 186), "msgsnd": (69, 189), "msgrcv": (70, 188), "msgctl": (71, 187),
    "mq_open": (240, 180), "mq_unlink": (241, 181), "memfd_create": (319, 279), "memfd_secret": (447, 447),
    "add_key": (248, 217), "request_key": (249, 218), "keyctl": (250, 219),
    "ptrace": (101, 117), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271), "pidfd_getfd": (438, 438),
    "bpf": (321, 280), "perf_event_open": (298, 241), "userfaultfd": (323, 282), "io_setup": (206, 0),
    "io_uring_setup": (425, 425), "io_uring_enter": (426, 426), "io_uring_register": (427, 427),
    "mount": (165, 40), "umount2": (166, 39), "pivot_root": (155, 41), "chroot": (161, 51),
    "open_tree": (428, 428), "move_mount": (429, 429), "fsopen": (430, 430), "fsconfig": (431, 431),
    "fsmount": (432, 432), "fspick": (433, 433), "mount_setattr": (442, 442), "unshare": (272, 97), "setns": (308, 268),
    "kexec_load": (246, 104), "kexec_file_load": (320, 294), "init_module": (175, 105), "finit_module": (313, 273),
    "delete_module": (176, 106), "reboot": (169, 142), "swapon": (167, 224), "swapoff": (168, 225), "acct": (163, 89),
    "quotactl": (179, 60), "quotactl_fd": (443, 443), "syslog": (103, 116), "settimeofday": (164, 170),
    "clock_settime": (227, 112), "clock_adjtime": (305, 266), "adjtimex": (159, 171),
    "name_to_handle_at": (303, 264), "open_by_handle_at": (304, 265), "fanotify_init": (300, 262),
    "mbind": (237, 235), "set_mempolicy": (238, 237), "migrate_pages": (256, 238), "move_pages": (279, 239),
    "iopl": (172, None), "ioperm": (173, None), "modify_ldt": (154, None), "vhangup": (153, 58),
}  # fmt: skip
_CLONE, _CLONE3, _MMAP, _SOCKET, _IOCTL = (56, 220), (435, 435), (9, 222), (41, 198), (16, 29)
_MACHINES = {"x86_64": (0xC000003E, 0), "aarch64": (0xC00000B7, 1), "riscv64": (0xC00000F3, 1)}
"""Machine → its number in the kernel's audit, and the column of the tables above."""

_X32 = 0x40000000  # the bit of x86-64's second table of calls, which the numbers above do not fit
_NEW_NAMESPACES = 0x7E020080
_SHARED, _ANONYMOUS = 0x01, 0x20
_FAMILIES = (1, 2, 10)  # unix, IPv4, IPv6: there is no network device; vsock, say, would reach beyond the namespace
_NETLINK = 16  # its protocol 0 alone, which lists the (missing) devices
_TERMINAL = (0x5412, 0x541C)  # to type into a terminal

_LOAD, _AND, _EQUAL, _AT_LEAST, _RETURN = 0x20, 0x54, 0x15, 0x35, 0x06
_NUMBER, _ARCH, _ARGUMENTS = 0, 4, 16  # offsets in the kernel's record of a call; the low half of an argument is first
_ALLOW, _KILL, _ERROR = 0x7FFF0000, 0x80000000, 0x00050000


def filter_program(machine: str) -> bytes:
    """Return the filter as the kernel takes it: instructions of eight bytes.

    Raises:
        ValueError: no numbers of calls are known for this machine.
    """
    if machine not in _MACHINES:
        raise ValueError(f"no system-call filter for {machine}")
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in _instructions(*_MACHINES[machine]))


def _instructions(arch: int, column: int) -> Iterator[tuple[int, int, int, int]]:
    """Yield instructions: operation, how many to jump over when true, when false, operand."""
    refuse = (_RETURN, 0, 0, _ERROR | errno.EPERM)
    yield _LOAD, 0, 0, _ARCH
    yield _EQUAL, 1, 0, arch
    yield _RETURN, 0, 0, _KILL
    yield _LOAD, 0, 0, _NUMBER
    if column == 0:
        yield _AT_LEAST, 0, 1, _X32
        yield refuse
    for numbers in _FORBIDDEN.values():
        if (number := numbers[column]) is not None:
            yield _EQUAL, 0, 1, number
            yield refuse
    yield _EQUAL, 0, 1, _CLONE3[column]
    yield _RETURN, 0, 0, _ERROR | errno.ENOSYS
    for number, tests in _by_arguments(column):
        yield _EQUAL, 0, len(tests), number  # another call: over all of this
        yield from tests
    yield _RETURN, 0, 0, _ALLOW


def _by_arguments(column: int) -> Iterator[tuple[int, list[tuple[int, int, int, int]]]]:
    """Yield the number of a call whose arguments decide, and the instructions that decide; each list returns."""
    refuse, allow = (_RETURN, 0, 0, _ERROR | errno.EPERM), (_RETURN, 0, 0, _ALLOW)
    no_family = (_RETURN, 0, 0, _ERROR | errno.EAFNOSUPPORT)

    def argument(place: int) -> tuple[int, int, int, int]:
        return _LOAD, 0, 0, _ARGUMENTS + 8 * place

    shared = _SHARED | _ANONYMOUS
    yield _MMAP[column], [argument(3), (_AND, 0, 0, shared), (_EQUAL, 0, 1, shared), refuse, allow]
    yield _CLONE[column], [argument(0), (_AND, 0, 0, _NEW_NAMESPACES & ~0xFF), (_EQUAL, 1, 0, 0), refuse, allow]
    ioctls = [step for number in _TERMINAL for step in ((_EQUAL, 0, 1, number), refuse)]
    yield _IOCTL[column], [argument(1), *ioctls, allow]
    families = [step for family in _FAMILIES for step in ((_EQUAL, 0, 1, family), allow)]
    netlink = [(_EQUAL, 0, 3, _NETLINK), argument(2), (_EQUAL, 0, 1, 0), allow]
    yield _SOCKET[column], [argument(0), *families, *netlink, no_family]
