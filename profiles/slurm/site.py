"""Ask SLURM what a site has, propose the two files of this profile, try one tiny job on each partition: `make site`."""

import getpass
import os
import re
import subprocess
import sys
from pathlib import Path

FOLDER = Path("site")
PATIENCE = 120  # seconds for a tiny job
JOB = """
echo "host $(hostname)"
echo "gpu ${CUDA_VISIBLE_DEVICES:-none}"
echo "scratch ${TMPDIR:-/tmp} $(df -Pm "${TMPDIR:-/tmp}" | awk 'NR == 2 {print $4}') MB free"
timeout 5 bash -c 'exec 3<> /dev/tcp/pypi.org/443' 2> /dev/null && echo "network yes" || echo "network no"
"""


def ask(*command, seconds=60):
    """Give what a command prints, and why it failed."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=False)
    except FileNotFoundError:
        return "", f"{command[0]} is not installed here"
    except subprocess.TimeoutExpired:
        return "", f"{command[0]} gave no answer in {seconds} s"
    return (done.stdout.strip(), "") if done.returncode == 0 else ("", done.stderr.strip() or "failed without a word")


def minutes(text):
    """Read a limit of time, as ``1-00:00:00``, ``30:00`` or ``infinite``; the latter, and none, is a year."""
    days, _, clock = text.rpartition("-")
    parts = clock.split(":")
    if not all(part.isdigit() for part in parts):
        return 365 * 24 * 60
    parts = [*parts, "0", "0"][:3] if days else ["0"] * (3 - len(parts)) + parts  # with days they begin with hours
    hours, mins, seconds = map(int, parts)
    return max(int(days or 0) * 1440 + hours * 60 + mins + (seconds > 0), 1)


def gpus(text):
    """Count the GPUs of a node in its generic resources, as ``gpu:a100:4(S:0-1),gpu:v100:2`` or ``(null)``."""
    fields = [re.sub(r"\(.*?\)", "", each).split(":") for each in re.sub(r"\([^)]*\)", "", text).split(",")]
    return sum(int(each[-1]) if each[-1].isdigit() else 1 for each in fields if each[0] == "gpu")


def partitions(text):
    """Read what `sinfo` says: for each partition the largest node of it, and its limit of time."""
    found = {}
    for line in text.splitlines():
        name, state, limit, memory, cores, gres = line.split("|")
        if not state.startswith("up"):
            continue
        size = (int(re.match(r"\d+", memory)[0]), int(re.match(r"\d+", cores)[0]), gpus(gres))
        largest = found.get(name, (0, 0, 0, 0))
        found[name] = (minutes(limit), *map(max, zip(largest[1:], size, strict=True)))
    return found


def proposal(found):
    """Write `partitions.yaml`."""
    lines = ["# By `make site`: the largest node of each partition, and its limit of time.", "partitions:"]
    for name, (limit, memory, cores, devices) in found.items():
        values = {"max_runtime": limit, "max_mem_mb": memory, "max_threads": cores}
        values |= {"max_gpu": devices} if devices else {}
        lines += [f"  {name}:", *(f"    {key}: {value}" for key, value in values.items())]
    return "\n".join(lines) + "\n"


def associations(text):
    """Read what `sacctmgr` says of a user: each account with its QOS."""
    rows = [line.split("|") for line in text.splitlines() if line.strip("|")]
    return {account: qos.split(",") if qos else [] for account, qos, *_ in rows if account}


def try_job(partition, *options):
    """Run a tiny job; give what it printed, and why it did not end well."""
    output, name = FOLDER / f"{partition}.txt", f"unitlens-site-{os.getpid()}"
    output.unlink(missing_ok=True)
    where = [f"--partition={partition}", "--time=1", "--mem=100", f"--output={output}", f"--job-name={name}"]
    _, error = ask("sbatch", "--wait", *where, *options, f"--wrap={JOB}", seconds=PATIENCE)
    if error and "gave no answer" in error:
        reason, _ = ask("squeue", "--noheader", f"--name={name}", "--format=%T, %r")
        ask("scancel", f"--name={name}")
        error = f"the job has not ended in {PATIENCE} s ({reason}) and was canceled"
    told = output.read_text(encoding="utf-8") if output.exists() else ""
    return ", ".join(told.splitlines()), error.replace("\n", "; ")


def try_partitions(found, options):
    """Try a job on each partition, with a GPU where there is one; say what worked. Tell how GPUs are asked for."""
    asked = ""
    for name, (limit, memory, cores, devices) in found.items():
        for gpu in ("--gpus=1", "--gres=gpu:1") if devices else ("",):
            told, error = try_job(name, *options, *([gpu] if gpu else []))
            if not error:
                asked = asked or gpu
                break
        print(f"partition {name}: {limit} min, {memory} MB, {cores} cores, {devices} GPUs: {error or told}")
    return asked


def main():
    """Ask, propose, try; give an error, if there is one."""
    FOLDER.mkdir(exist_ok=True)
    text, error = ask("sinfo", "--noheader", "--format=%R|%a|%l|%m|%c|%G")
    if error:
        return f"SLURM cannot be asked from here: {error}"
    found = partitions(text)
    (FOLDER / "partitions.yaml").write_text(proposal(found), encoding="utf-8")
    config, _ = ask("scontrol", "show", "config")
    stored = re.search(r"AccountingStorageType\s*=\s*(\S+)", config)
    print(f"accounting: {stored[1] if stored else 'unknown'}; jobs are followed with it and without")
    known, error = ask("sacctmgr", "-nP", "show", "assoc", f"user={getpass.getuser()}", "format=account,qos")
    accounts = associations(known)
    for name, qos in accounts.items():
        print(f"account {name}, QOS {', '.join(qos) or 'none'}")
    if not accounts:
        print(f"account: none is known ({error or 'sacctmgr names none for you'})")
    first = next(iter(accounts), None)
    asked = try_partitions(found, [f"--account={first}"] if first else [])
    lines = ["default-resources:", f"  slurm_account: {first}"] if first else []
    if asked == "--gres=gpu:1":
        lines.append(
            "# GPUs only by --gres: uncomment the block set-resources at the end of the profile, with its first line"
        )
    (FOLDER / "config.yaml").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    print(f"GPUs: {asked or 'no job got one'}")
    print(f"Compare, then copy: {FOLDER}/partitions.yaml, and the lines of {FOLDER}/config.yaml, into profiles/slurm")
    return None


if __name__ == "__main__":
    sys.exit(main())
