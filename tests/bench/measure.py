"""What the benchmarks measure about a process and say about the machine."""

import json
import os
import platform
import subprocess
import sys
from pathlib import Path


def status(field: str) -> int:  # bytes
    """Read this process's memory; getrusage would count what the parent used before it started this process."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    raise LookupError(f"/proc/self/status has no {field}")


def machine(device: str) -> str:
    """Name the processors."""
    import torch  # here, for processes that measure memory without it

    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    cpu = f"{names[0] if names else platform.machine()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads"
    return cpu if device == "cpu" else f"{torch.cuda.get_device_name()}; {cpu}"


def page(name: str, device: str) -> Path:
    """Say where a benchmark is written by default."""
    return Path("docs/benchmarks", f"{name}.md" if device == "cpu" else f"{name}-gpu.md")


def made_by(device: str) -> str:
    """Name the command that writes such a page."""
    return "make bench" if device == "cpu" else "make bench-gpu"


def in_a_process(script: str, *arguments: str) -> dict:
    """Run a script in a process of its own; return what its last line says as JSON."""
    output = subprocess.check_output([sys.executable, script, *arguments], text=True)
    return json.loads(output.splitlines()[-1])
