"""How many cores this process may really use: affinity, the container's CPU quota, and no hyper-thread twins."""

from __future__ import annotations

import math
import os
from pathlib import Path

CPU_TOPOLOGY = Path("/sys/devices/system/cpu")
CGROUP = Path("/sys/fs/cgroup")


def usable_cores(topology: Path = CPU_TOPOLOGY, cgroup: Path = CGROUP) -> int:
    """Physical cores in the process' affinity mask, at most its cgroup v2 quota rounded up; at least 1."""
    allowed = os.sched_getaffinity(0)
    cores = {_siblings(topology, cpu) for cpu in allowed}
    return max(1, min(len(cores), _quota(cgroup)))


def bound_tokenising(threads: int) -> None:
    """Let tokenizers take at most so many threads, unless RAYON_NUM_THREADS says otherwise.

    They share one pool, made at the first batch that a process tokenises; what is said later changes nothing.
    """
    os.environ.setdefault("RAYON_NUM_THREADS", str(threads))


def _siblings(topology: Path, cpu: int) -> str:
    try:
        return (topology / f"cpu{cpu}" / "topology" / "thread_siblings_list").read_text().strip()
    except OSError:
        return str(cpu)


def _quota(cgroup: Path) -> int:
    try:
        quota, period = (cgroup / "cpu.max").read_text().split()
    except (OSError, ValueError):
        return 1 << 16
    return 1 << 16 if quota == "max" else math.ceil(int(quota) / int(period))
