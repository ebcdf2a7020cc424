"""A process that can read one open file, write one pipe, compute, and nothing else. For Linux; by ctypes alone.

Called between fork and the first byte of somebody's file. Everything that needs a file, a module or another process
must have happened before. Each layer that the kernel refuses is left out and missed in the answer, so that the caller
can decide whether what remains is enough.
"""

import contextlib
import ctypes
import os
import platform
import resource
import signal
import struct
from collections.abc import Callable

NOBODY = 65_534

_PR_SET_PDEATHSIG, _PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP, _SECCOMP_MODE_FILTER = 1, 38, 22, 2
_LANDLOCK_CREATE_RULESET, _LANDLOCK_RESTRICT_SELF, _LANDLOCK_VERSION = 444, 446, 1
# What a ruleset may forbid, by Landlock's version (linux/landlock.h): bits of file access; from 4 on both TCP
# rights; from 6 on abstract sockets and signals to outside.
_LANDLOCK_FILE_BITS = {1: 13, 2: 14, 3: 15, 4: 15}
_LANDLOCK_FILE_BITS_NOW = 16

# An allow-list: what CPython, FFmpeg and ONNX Runtime need to compute in one thread, to read an open file and to end.
# `write` and anything that could make memory executable are looked at more closely below. Not here, though harmless
# to us: `tgkill` and `kill`, which reach other processes of the same user.
_CALLS = {
    "x86_64": {
        "read": 0, "write": 1, "close": 3, "fstat": 5, "poll": 7, "lseek": 8, "mmap": 9, "mprotect": 10,
        "munmap": 11, "brk": 12, "rt_sigaction": 13, "rt_sigprocmask": 14, "rt_sigreturn": 15, "pread64": 17,
        "sched_yield": 24, "mremap": 25, "madvise": 28, "getpid": 39, "exit": 60, "gettimeofday": 96,
        "getrusage": 98, "sysinfo": 99, "times": 100, "sigaltstack": 131, "gettid": 186, "futex": 202,
        "sched_getaffinity": 204, "restart_syscall": 219, "clock_gettime": 228, "clock_getres": 229,
        "clock_nanosleep": 230, "exit_group": 231, "set_robust_list": 273, "getcpu": 309, "getrandom": 318,
        "membarrier": 324, "rseq": 334,
    },
    "aarch64": {
        "read": 63, "write": 64, "close": 57, "fstat": 80, "ppoll": 73, "lseek": 62, "mmap": 222, "mprotect": 226,
        "munmap": 215, "brk": 214, "rt_sigaction": 134, "rt_sigprocmask": 135, "rt_sigreturn": 139, "pread64": 67,
        "sched_yield": 124, "mremap": 216, "madvise": 233, "getpid": 172, "exit": 93, "gettimeofday": 169,
        "getrusage": 165, "sysinfo": 179, "times": 153, "sigaltstack": 132, "gettid": 178, "futex": 98,
        "sched_getaffinity": 123, "restart_syscall": 128, "clock_gettime": 113, "clock_getres": 114,
        "clock_nanosleep": 115, "exit_group": 94, "set_robust_list": 99, "getcpu": 168, "getrandom": 278,
        "membarrier": 283, "rseq": 293,
    },
}  # fmt: skip
_ARCHITECTURE = {"x86_64": 0xC000_003E, "aarch64": 0xC000_00B7}  # AUDIT_ARCH_*, linux/audit.h
_PROT_EXEC = 4
_LOAD, _EQUAL, _ANY_BIT, _RETURN = 0x20, 0x15, 0x45, 0x06  # BPF, linux/bpf_common.h
_ALLOW, _REFUSE, _KILL = 0x7FFF_0000, 0x0005_0000 | 1, 0x8000_0000  # linux/seccomp.h; 1 is EPERM

_libc = ctypes.CDLL(None, use_errno=True)


def die_with_parent() -> None:
    """Has the kernel kill this process when the one that started it ends. Undone by a change of user."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def close_all_but(*keep: int) -> None:
    """Closes every other descriptor."""
    low = 0
    for fd in sorted(keep):
        os.closerange(low, fd)
        low = fd + 1
    os.closerange(low, resource.getrlimit(resource.RLIMIT_NOFILE)[1])


def lock_in(out: int, memory_bytes: int, cpu_seconds: int) -> tuple[str, ...]:
    """Gives up, for good, all that decoding does not need; only `out` may still be written to.

    Returns the layers that hold, of `no_new_privs`, `landlock`, `rlimits`, `user` and `seccomp`.
    """
    steps: dict[str, Callable[[], None]] = {
        "no_new_privs": lambda: _prctl(_PR_SET_NO_NEW_PRIVS, 1),
        "landlock": _no_files,  # takes a descriptor, which the limits forbid
        "rlimits": lambda: _limit(memory_bytes, cpu_seconds),
        "user": _be_nobody,
        "seccomp": lambda: _filter_calls(out),
    }
    held = []
    for name, step in steps.items():
        with contextlib.suppress(OSError, KeyError, ValueError):
            step()
            held.append(name)
    return tuple(held)


def _prctl(option: int, *values: int) -> None:
    arguments = [ctypes.c_ulong(value) for value in (*values, 0, 0, 0, 0)[:4]]
    _check(_libc.prctl(option, *arguments))


def _check(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def _limit(memory_bytes: int, cpu_seconds: int) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_seconds, cpu_seconds))
    for which in (resource.RLIMIT_CORE, resource.RLIMIT_FSIZE, resource.RLIMIT_NPROC, resource.RLIMIT_NOFILE):
        resource.setrlimit(which, (0, 0))


def _no_files() -> None:
    """Landlock without a single rule: nothing of any file system, no TCP, no signals to outside."""
    version = _check(_libc.syscall(_LANDLOCK_CREATE_RULESET, None, ctypes.c_size_t(0), _LANDLOCK_VERSION))
    files = (1 << _LANDLOCK_FILE_BITS.get(version, _LANDLOCK_FILE_BITS_NOW)) - 1
    rights = struct.pack("=QQQ", files, 0b11, 0b11)[: 8 if version < 4 else 16 if version < 6 else 24]
    ruleset = _check(_libc.syscall(_LANDLOCK_CREATE_RULESET, rights, ctypes.c_size_t(len(rights)), 0))
    try:
        _check(_libc.syscall(_LANDLOCK_RESTRICT_SELF, ruleset, 0))
    finally:
        os.close(ruleset)


def _be_nobody() -> None:
    if os.geteuid() == 0:
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
        die_with_parent()


def _filter_calls(out: int) -> None:
    machine = platform.machine()
    calls = _CALLS[machine]
    checked = {calls["write"], calls["mmap"], calls["mprotect"]}
    program: list[tuple[int, int, int, int]] = [
        (_LOAD, 0, 0, 4),  # seccomp_data.arch
        (_EQUAL, 1, 0, _ARCHITECTURE[machine]),
        (_RETURN, 0, 0, _KILL),
        (_LOAD, 0, 0, 0),  # seccomp_data.nr
    ]
    for number in sorted(set(calls.values()) - checked):
        program += [(_EQUAL, 0, 1, number), (_RETURN, 0, 0, _ALLOW)]
    program += [
        (_EQUAL, 0, 4, calls["write"]),
        (_LOAD, 0, 0, 16),  # the first argument's lower half
        (_EQUAL, 0, 1, out),
        (_RETURN, 0, 0, _ALLOW),
        (_RETURN, 0, 0, _REFUSE),
        (_EQUAL, 2, 0, calls["mmap"]),
        (_EQUAL, 1, 0, calls["mprotect"]),
        (_RETURN, 0, 0, _REFUSE),
        (_LOAD, 0, 0, 32),  # the third argument's lower half: what may be done with the memory
        (_ANY_BIT, 0, 1, _PROT_EXEC),
        (_RETURN, 0, 0, _REFUSE),
        (_RETURN, 0, 0, _ALLOW),
    ]
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *line) for line in program))
    pointer = ctypes.create_string_buffer(struct.pack("@HP", len(program), ctypes.addressof(code)))
    _prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.addressof(pointer))
