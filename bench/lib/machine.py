# SPDX-License-Identifier: Apache-2.0
"""What a benchmark's results depend on besides the programs: the machine, the kernel, settings in the environment."""

import os
import platform
from typing import Dict

# Settings that change how an allocator works; a run does not remove them, so the report must show them.
TUNING = ("HAKMEM_", "MIMALLOC_", "MALLOC_", "_RJEM_", "TCMALLOC_", "GLIBC_TUNABLES")


def _read(path: str, default: str = "unknown") -> str:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read().strip()
    except OSError:
        return default


def _cpu_model() -> str:
    for line in _read("/proc/cpuinfo").splitlines():
        if line.startswith(("model name", "Processor")):
            return line.split(":", 1)[1].strip()
    return platform.machine()


def _bracketed(text: str) -> str:
    """The chosen one of "always [madvise] never"."""
    return text.split("[", 1)[1].split("]", 1)[0] if "[" in text else text


def describe() -> Dict[str, str]:
    memory = next((line.split()[1] for line in _read("/proc/meminfo").splitlines() if line.startswith("MemTotal")), "0")
    return {
        "cpu": _cpu_model(),
        "cores": str(len(os.sched_getaffinity(0))),
        "memory": f"{int(memory) / 1048576:.1f} GiB",
        "page": f"{os.sysconf('SC_PAGE_SIZE')} B",
        "kernel": f"{platform.system()} {platform.release()} {platform.machine()}",
        "thp": _bracketed(_read("/sys/kernel/mm/transparent_hugepage/enabled")),
        "governor": _read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        "load": "%.2f" % os.getloadavg()[0],
        "python": platform.python_version(),
        "environment": " ".join(
            f"{key}={value}" for key, value in sorted(os.environ.items()) if key.startswith(TUNING)
        ) or "no allocator settings",
    }


def lines(facts: Dict[str, str]) -> str:
    return (
        f"Machine: {facts['cpu']}, {facts['cores']} cores usable, {facts['memory']}, pages of {facts['page']}, "
        f"load {facts['load']} at the start\n"
        f"Kernel: {facts['kernel']}, transparent huge pages {facts['thp']}, frequency governor {facts['governor']}\n"
        f"Environment: {facts['environment']}"
    )
