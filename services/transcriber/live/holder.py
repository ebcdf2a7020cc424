"""Who holds a lease, so that others on the same machine can tell that he is gone without waiting for it to run out.

A dead process renews nothing and says nothing, so its sessions are free at once. On another machine, in another
container or of another user nothing can be told, and the lease has to run out.
"""

import os
from contextlib import suppress
from pathlib import Path


def this_process(proc: Path = Path("/proc")) -> str:
    """`<boot>/<process namespace>/<user>/<pid>/<when it began>`; empty where the system does not tell."""
    with suppress(OSError):
        began = _began(proc, os.getpid())
        if began is not None:
            return f"{_here(proc)}/{os.getpid()}/{began}"
    return ""


def is_gone(holder: str, proc: Path = Path("/proc")) -> bool:
    """Whether that process certainly runs no more; False where nothing can be told."""
    here, _, process = holder.rpartition("/")
    here, _, pid = here.rpartition("/")
    with suppress(OSError, ValueError):
        return bool(here) and here == _here(proc) and _began(proc, int(pid)) != process
    return False


def _here(proc: Path) -> str:
    """Where a pid means the same process, and may be looked at: others' may be hidden from us."""
    boot = (proc / "sys/kernel/random/boot_id").read_text().strip()
    return f"{boot}/{(proc / 'self/ns/pid').stat().st_ino}/{os.getuid()}"


def _began(proc: Path, pid: int) -> str | None:
    """Clock ticks after the boot at which a process began, by proc(5); None when there is none, or just its body."""
    try:
        stat = (proc / str(pid) / "stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    state, *rest = stat.rpartition(")")[2].split()  # the name before may hold anything
    return None if state in "ZX" else rest[18]
