"""The CPU quota is found wherever the kernel or a container keeps it, and the least one counts."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import pytest

from models.threads import cpu_quota, usable_cores

POD = "/kubepods.slice/pod1.slice/worker"
CGROUP = "sys/fs/cgroup"


def machine(root: Path, files: Mapping[str, str]) -> Path:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content)
    return root


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        pytest.param({}, math.inf, id="nothing there"),
        pytest.param({f"{CGROUP}/cpu.max": "150000 100000\n"}, 1.5, id="a container that sees its own group"),
        pytest.param({f"{CGROUP}/cpu.max": "max 100000\n"}, math.inf, id="no limit"),
        pytest.param(
            {"proc/self/cgroup": f"0::{POD}\n", f"{CGROUP}{POD}/cpu.max": "400000 200000\n"}, 2.0, id="its group"
        ),
        pytest.param(
            {
                "proc/self/cgroup": f"0::{POD}\n",
                f"{CGROUP}{POD}/cpu.max": "max 100000\n",
                f"{CGROUP}/kubepods.slice/pod1.slice/cpu.max": "300000 100000\n",
                f"{CGROUP}/kubepods.slice/cpu.max": "800000 100000\n",
                f"{CGROUP}/kubepods.slice/pod2.slice/cpu.max": "100000 100000\n",
            },
            3.0,
            id="the least above it, not that of others",
        ),
        pytest.param(
            {
                "proc/self/cgroup": f"7:memory:/else\n3:cpu,cpuacct:{POD}\n0::/\n",
                f"{CGROUP}/cpu,cpuacct{POD}/cpu.cfs_quota_us": "-1\n",
                f"{CGROUP}/cpu,cpuacct{POD}/cpu.cfs_period_us": "100000\n",
                f"{CGROUP}/cpu,cpuacct/kubepods.slice/cpu.cfs_quota_us": "250000\n",
                f"{CGROUP}/cpu,cpuacct/kubepods.slice/cpu.cfs_period_us": "100000\n",
            },
            2.5,
            id="version 1",
        ),
        pytest.param(
            {
                "proc/self/cgroup": "4:cpu:/docker/0123\n1:cpuset:/other\n",
                f"{CGROUP}/cpu/cpu.cfs_quota_us": "50000\n",
                f"{CGROUP}/cpu/cpu.cfs_period_us": "100000\n",
            },
            0.5,
            id="a container of version 1 that sees its own group",
        ),
        pytest.param(
            {"proc/self/cgroup": "1:cpu:/\n0::/a\n", f"{CGROUP}/unified/a/cpu.max": "100000 100000\n"}, 1.0, id="both"
        ),
        pytest.param(
            {"proc/self/cgroup": "0::/../other\n", f"{CGROUP}/cpu.max": "200000 100000\n"}, 2.0, id="another namespace"
        ),
        pytest.param({f"{CGROUP}/cpu.max": "much\n", "proc/self/cgroup": "x\n::\n\n"}, math.inf, id="not understood"),
        pytest.param({f"{CGROUP}/cpu.max": "100000 0\n"}, math.inf, id="no period"),
        pytest.param({f"{CGROUP}/cpu/cpu.cfs_quota_us": "100000\n"}, math.inf, id="half of version 1"),
    ],
)
def test_the_quota_is_the_least_that_a_group_of_the_process_has(
    tmp_path: Path, files: Mapping[str, str], expected: float
) -> None:
    assert cpu_quota(machine(tmp_path, files)) == expected


def test_cores_are_at_least_one_and_at_most_the_quota(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert usable_cores() >= 1
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(8)))
    for quota, cores in (("50000", 1), ("250000", 3), ("800000", 8), ("9900000", 8), ("max", 8)):
        machine(tmp_path, {f"{CGROUP}/cpu.max": f"{quota} 100000\n"})
        assert usable_cores(topology=tmp_path, root=tmp_path) == cores
