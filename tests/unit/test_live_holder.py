"""Whether the process that held a lease is gone, as others on its machine see it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from services.transcriber.live.holder import is_gone, this_process

linux = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="told by proc(5)")


def of(pid: int) -> str:
    """The holder that another process of ours would be."""
    here = this_process().rsplit("/", 2)[0]
    began = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    return f"{here}/{pid}/{began}"


@linux
def test_who_lives_is_not_gone() -> None:
    """A running process is there, this one and another."""
    assert not is_gone(this_process())
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        assert not is_gone(of(other.pid))
        other.communicate(b"\n")


@linux
def test_who_was_killed_is_gone() -> None:
    """From the moment on at which it is dead, even while nobody has taken notice of its end."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        holder = of(other.pid)
        other.kill()
        os.waitid(os.P_PID, other.pid, os.WEXITED | os.WNOWAIT)  # dead, and not buried
        assert is_gone(holder)
    assert is_gone(holder)


@linux
def test_another_of_the_same_number_is_somebody_else() -> None:
    """Numbers are given again: who began at another moment is not who held the lease."""
    assert is_gone(f"{this_process()}0")


@pytest.mark.parametrize("part", range(3))
@linux
def test_nothing_is_told_of_elsewhere(part: int) -> None:
    """Of another machine, container or user nothing is told, and the lease has to run out."""
    parts = f"{this_process()}0".split("/")
    parts[part] += "0"
    assert not is_gone("/".join(parts))


def test_nothing_is_told_where_the_system_tells_nothing(tmp_path: Path) -> None:
    """Without proc(5) there is no name for a process, and nobody is gone."""
    assert this_process(tmp_path) == ""
    assert not is_gone("")
    assert not is_gone("boot/1/0/1/1", tmp_path)
