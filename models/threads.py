"""How many cores this process may really use: affinity, the container's CPU quota, and no hyper-thread twins."""

from __future__ import annotations

import math
import os
from pathlib import Path, PurePosixPath

CPU_TOPOLOGY = Path("/sys/devices/system/cpu")
ROOT = Path("/")


def usable_cores(topology: Path = CPU_TOPOLOGY, root: Path = ROOT) -> int:
    """Physical cores in the process' affinity mask, at most its CPU quota (`cpu_quota`) rounded up; at least 1."""
    allowed = os.sched_getaffinity(0)
    cores = {_siblings(topology, cpu) for cpu in allowed}
    quota = cpu_quota(root)
    return len(cores) if quota >= len(cores) else max(1, math.ceil(quota))


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


def cpu_quota(root: Path) -> float:
    """How many CPUs' time the process' control groups let it have, infinite where none limits it.

    The least of its group's and of all those above it that can be seen under `root`/sys/fs/cgroup: version 2 (Linux'
    Documentation/admin-guide/cgroup-v2.rst, `cpu.max`), version 1 (Documentation/scheduler/sched-bwc.rst,
    `cpu.cfs_quota_us`), or both. A container often sees its own group as the uppermost one, whatever
    `root`/proc/self/cgroup calls it.
    """
    mount = root / "sys/fs/cgroup"
    version_2, version_1 = _own_groups(root)
    folders = [*_upwards(mount, version_2), *_upwards(mount / "unified", version_2)]
    quotas = [_limit(_words(folder / "cpu.max")) for folder in folders]
    for name in ("cpu", "cpu,cpuacct", "cpuacct,cpu"):
        quotas += [
            _limit(_words(folder / "cpu.cfs_quota_us") + _words(folder / "cpu.cfs_period_us"))
            for folder in _upwards(mount / name, version_1)
        ]
    return min(quotas)


def _own_groups(root: Path) -> tuple[str, str]:
    """The paths of the process' control group in version 2 and in version 1's controller `cpu`."""
    version_2 = version_1 = "/"
    for line in _lines(root / "proc/self/cgroup"):
        hierarchy, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if hierarchy == "0" and not controllers:
            version_2 = path
        elif "cpu" in controllers.split(","):
            version_1 = path
    return version_2, version_1


def _upwards(mount: Path, group: str) -> list[Path]:
    """The folder of a group and of all above it. A group outside of the process' namespace (`/../x`) has none."""
    parts = PurePosixPath(group).parts[1:]
    if ".." in parts:
        return [mount]
    return [mount.joinpath(*parts[:count]) for count in range(len(parts), -1, -1)]


def _limit(words: list[str]) -> float:
    """Quota by period, both in microseconds; infinite where there is none ("max", -1, or no such file)."""
    try:
        quota, period = map(int, words)
    except ValueError:
        return math.inf
    return quota / period if quota > 0 and period > 0 else math.inf


def _words(file: Path) -> list[str]:
    return " ".join(_lines(file)).split()


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
