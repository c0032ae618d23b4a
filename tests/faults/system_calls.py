"""The system calls of Linux on x86-64 that change files, and the kernel's interface for stopping a program at them.

Three calls of the C library are needed: ``prctl`` to install a filter that stops the program at these calls and at no
other, ``ptrace`` to look at it while it stands, and to change what it asked for.  Numbers are the kernel's
(``asm/unistd_64.h``, ``linux/ptrace.h``, ``linux/seccomp.h``, ``linux/fcntl.h``) and never change.

Rejected: stopping at every call, twice (an import of PyTorch makes 13,000), strace (``--inject`` can do the same, but
is not installed everywhere), LD_PRELOAD (needs a compiler, and misses what Rust calls).
"""

import ctypes
import os
import struct

# Where a call's path is: a name alone, a descriptor, a directory's descriptor and a name, or two of these.
NAME, DESCRIPTOR, AT, NAMES, AT_NAMES = "name", "descriptor", "at", "two names", "two at"

CALLS: dict[int, tuple[str, str, int]] = {
    1: ("write", DESCRIPTOR, 0),
    2: ("open", NAME, 0),
    18: ("pwrite64", DESCRIPTOR, 0),
    20: ("writev", DESCRIPTOR, 0),
    40: ("sendfile", DESCRIPTOR, 0),
    74: ("fsync", DESCRIPTOR, 0),
    75: ("fdatasync", DESCRIPTOR, 0),
    76: ("truncate", NAME, 0),
    77: ("ftruncate", DESCRIPTOR, 0),
    82: ("rename", NAMES, 0),
    83: ("mkdir", NAME, 0),
    84: ("rmdir", NAME, 0),
    85: ("creat", NAME, 0),
    86: ("link", NAMES, 0),
    87: ("unlink", NAME, 0),
    88: ("symlink", NAME, 1),
    90: ("chmod", NAME, 0),
    91: ("fchmod", DESCRIPTOR, 0),
    257: ("openat", AT, 0),
    258: ("mkdirat", AT, 0),
    263: ("unlinkat", AT, 0),
    264: ("renameat", AT_NAMES, 0),
    265: ("linkat", AT_NAMES, 0),
    266: ("symlinkat", AT, 1),
    268: ("fchmodat", AT, 0),
    280: ("utimensat", AT, 0),
    285: ("fallocate", DESCRIPTOR, 0),
    296: ("pwritev", DESCRIPTOR, 0),
    316: ("renameat2", AT_NAMES, 0),
    326: ("copy_file_range", DESCRIPTOR, 2),
}
"""Number → (name, where its path is, index of the argument at which that begins)."""
FLAGS_OF_OPEN = {"open": 1, "openat": 2}
"""Opening counts only where these arguments ask for writing."""
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
AT_FDCWD = -100

TRACEME, CONT, GETREGS, SETREGS, SYSCALL, SETOPTIONS, GETEVENTMSG = 0, 7, 12, 13, 24, 0x4200, 0x4201
SYSGOOD, FORK, VFORK, CLONE, EXEC, SECCOMP, EXITKILL = 1, 2, 4, 8, 16, 128, 0x100000
OPTIONS = SYSGOOD | FORK | VFORK | CLONE | EXEC | SECCOMP | EXITKILL
EVENT_SECCOMP, EVENTS_OF_BIRTH = 7, (1, 2, 3)
WAIT_FOR_ALL = 0x40000000 | 0x20000000  # threads too, but no children of our other threads

_libc = ctypes.CDLL(None, use_errno=True)
_libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
_libc.ptrace.restype = ctypes.c_long


REGISTERS = (
    "r15", "r14", "r13", "r12", "rbp", "rbx", "r11", "r10", "r9", "r8", "rax", "rcx", "rdx", "rsi", "rdi", "orig_rax",
    "rip", "cs", "eflags", "rsp", "ss", "fs_base", "gs_base", "ds", "es", "fs", "gs",
)  # fmt: skip


class Registers(ctypes.Structure):
    """``struct user_regs_struct``."""

    _fields_ = [(name, ctypes.c_ulonglong) for name in REGISTERS]

    def argument(self, index: int) -> int:
        return getattr(self, ("rdi", "rsi", "rdx", "r10", "r8", "r9")[index])


def ptrace(request: int, process: int, data: int | ctypes.Structure | ctypes.c_ulong = 0) -> None:
    """Raises ``OSError`` where the kernel refuses."""
    where = data if isinstance(data, int) else ctypes.addressof(data)
    if _libc.ptrace(request, process, None, where) == -1:
        number = ctypes.get_errno()
        raise OSError(number, f"ptrace: {os.strerror(number)}")


def stop_at_changes() -> None:
    """In a new process, before it becomes another program: be traced, and stop at ``CALLS``."""
    ptrace(TRACEME, 0)
    allow, stop = 0x7FFF0000, 0x7FF00000
    numbers = sorted(CALLS)
    lines = [(0x20, 0, 0, 0)]  # load the call's number
    lines += [(0x15, len(numbers) - place, 0, number) for place, number in enumerate(numbers)]  # if equal, to the end
    lines += [(0x06, 0, 0, allow), (0x06, 0, 0, stop)]
    program = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *line) for line in lines))
    header = ctypes.create_string_buffer(struct.pack("HxxxxxxQ", len(lines), ctypes.addressof(program)))
    for option, value, extra in ((38, 1, None), (22, 2, ctypes.byref(header))):  # no new privileges; then the filter
        if _libc.prctl(option, ctypes.c_ulong(value), extra, 0, 0) == -1:
            raise OSError(ctypes.get_errno(), "prctl")
