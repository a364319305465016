"""A real SLURM on this machine for the tests: one CPU node and two nodes with four fake GPUs each, on loopback; with
accounting, as most sites have it (slurmdbd and MariaDB), or without.

Everything lies in one short temporary folder (a socket's path must stay under 108 characters), but for the files in
/etc/slurm: Snakemake's job steps drop SLURM_CONF and read only those.
"""

import fcntl
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from contextlib import suppress
from pathlib import Path

SYSTEM = Path("/etc/slurm")
FILES = ("slurm.conf", "gres.conf", "slurmdbd.conf")
DAEMONS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "scontrol")
OF_ACCOUNTING = ("slurmdbd", "mariadbd", "mariadb-install-db", "mariadb", "sacct", "sacctmgr")
LOCK = Path(tempfile.gettempdir(), "unitlens-slurm.lock")  # held by the one cluster that is up
NODES = ("cpu1", "gpu1", "gpu2")
GPUS = 4  # of each GPU node

CONFIG = """\
ClusterName={name}
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket={folder}/munge.socket
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
SlurmUser=root
SlurmdUser=root
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool/%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.%n.pid
SlurmctldLogFile={folder}/log/slurmctld.log
SlurmdLogFile={folder}/log/slurmd.%n.log
MailProg=/bin/true
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=1
JobAcctGatherParams=OverMemoryKill
{accounting}
ReturnToService=2
SlurmdParameters=config_overrides
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
DefMemPerCPU=500
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,bf_interval=1
MinJobAge=3600
KillWait=2
GresTypes=gpu
NodeName=DEFAULT CPUs=8 RealMemory=64000
NodeName=cpu1 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[1]}
NodeName=gpu1 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[2]} Gres=gpu:a100:{gpus} Feature=a100
NodeName=gpu2 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[3]} Gres=gpu:a100:{gpus} Feature=a100
PartitionName=cpu Nodes=cpu1 Default=YES MaxTime=1-00:00:00 State=UP
PartitionName=gpu Nodes=gpu1,gpu2 MaxTime=1-00:00:00 State=UP
"""

ACCOUNTING = """\
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort={ports[4]}
AccountingStoragePass={folder}/munge.socket
AccountingStorageTRES=gres/gpu
AccountingStoreFlags=job_comment
AccountingStorageEnforce=associations,limits,qos"""

DATABASE_DAEMON = """\
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
DbdHost=localhost
DbdAddr=127.0.0.1
DbdPort={ports[4]}
SlurmUser=root
PidFile={folder}/slurmdbd.pid
LogFile={folder}/log/slurmdbd.log
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort={ports[5]}
StorageUser=slurm
StoragePass=slurm
StorageLoc=slurm_acct_db
"""

DATABASE = """\
[mariadbd]
datadir={folder}/mysql
pid-file={folder}/mysql/mariadbd.pid
log-error={folder}/mysql/mariadbd.log
bind-address=127.0.0.1
port={ports[5]}
user=mysql
skip-name-resolve
innodb_buffer_pool_size=64M
innodb_flush_log_at_trx_commit=0
innodb_lock_wait_timeout=900
"""

USER_OF_DATABASE = """
CREATE DATABASE slurm_acct_db;
CREATE USER slurm@'127.0.0.1' IDENTIFIED BY 'slurm';
GRANT ALL ON slurm_acct_db.* TO slurm@'127.0.0.1';
"""


def why_not(accounting=False):
    """Say why no cluster can be started here; an empty string where it can."""
    if os.geteuid() != 0:
        return "a cluster for the tests needs root"
    packages = "slurm-wlm munge" + (" slurmdbd mariadb-server" if accounting else "")
    if missing := [name for name in DAEMONS + OF_ACCOUNTING * accounting if shutil.which(name) is None]:
        return f"{', '.join(missing)} not installed: apt-get install --no-install-recommends {packages}"
    if (SYSTEM / FILES[0]).exists() and answers("scontrol", "ping", "--quiet"):
        return f"{SYSTEM / FILES[0]} belongs to a cluster that is up"
    return ""


def answers(*command):
    """Tell whether a command ends well within ten seconds."""
    try:
        return subprocess.run(command, capture_output=True, timeout=10).returncode == 0
    except subprocess.TimeoutExpired:
        return False


def wait_until(condition, what, seconds=60):
    """Look four times a second; fail with `what` when it takes too long."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not happen within {seconds} s"
        time.sleep(0.25)


class Cluster:
    """A running cluster; a context manager that stops it."""

    def __init__(self, accounting=False):
        self.folder = Path(tempfile.mkdtemp(prefix="ul", dir="/tmp"))
        self.name = f"unitlens_{self.folder.name}".lower()  # its own: what is killed by it belongs to no other cluster
        self.accounting, self.saved = accounting, {}

    def __enter__(self):
        self.lock = LOCK.open("w")
        fcntl.flock(self.lock, fcntl.LOCK_EX)  # wait for another: its controller may be away and not answer `why_not`
        try:
            self._install_config()
            self._start_munge()
            if self.accounting:
                self._start_database()
                self.start_accounting()
                for entity in ("cluster", self.name), ("account", "lab"), ("user", "root", "account=lab"):
                    tell("sacctmgr", "--immediate", "add", *entity)
            self.start_controller()
            for node in NODES:
                self.start_node(node)
            wait_until(lambda: set(self.states()) == {"idle"}, "the nodes' coming up")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *error):
        answers("scancel", "--user=root")
        daemons = ("slurmctld.pid", "slurmdbd.pid", "mysql/mariadbd.pid", "munged.pid")
        for pid_file in [*self.folder.glob("slurmd.*.pid"), *(self.folder / name for name in daemons)]:
            stop(pid_file)
        for name in FILES:
            (SYSTEM / name).unlink(missing_ok=True)
            if name in self.saved:
                self.saved[name].rename(SYSTEM / name)
        shutil.rmtree(self.folder)
        self.lock.close()

    def _install_config(self):
        for name in ("munge", "log", "state", "devices", *(f"spool/{node}" for node in NODES)):
            (self.folder / name).mkdir(parents=True)
        self.folder.chmod(0o755)  # the socket is for everyone,
        (self.folder / "munge").chmod(0o700)  # the key is not
        for number in range(GPUS):  # SLURM takes character devices only
            subprocess.run(["mknod", self.folder / f"devices/nvidia{number}", "c", "1", "3"], check=True)
        facts = {"folder": self.folder, "ports": free_ports(6)}
        config = CONFIG.format(
            accounting=ACCOUNTING.format(**facts)
            if self.accounting
            else "AccountingStorageType=accounting_storage/none",
            name=self.name,
            host=socket.gethostname().split(".")[0],
            gpus=GPUS,
            **facts,
        )
        gres = f"NodeName=gpu1,gpu2 Name=gpu Type=a100 File={self.folder}/devices/nvidia[0-{GPUS - 1}]\n"
        SYSTEM.mkdir(exist_ok=True)
        for name, text in zip(FILES, (config, gres, DATABASE_DAEMON.format(**facts)), strict=True):
            path = SYSTEM / name
            if path.exists() or path.is_symlink():
                self.saved[name] = path.rename(path.with_name(f"{name}.before-tests"))
            path.write_text(text)
            path.chmod(0o600 if name == "slurmdbd.conf" else 0o644)  # slurmdbd refuses one that others can read
        (self.folder / "mysql.cnf").write_text(DATABASE.format(**facts))

    def _start_munge(self):
        key = self.folder / "munge/key"
        key.write_bytes(os.urandom(1024))
        key.chmod(0o600)
        files = {
            "key": key,
            "socket": "munge.socket",
            "pid": "munged.pid",
            "log": "log/munged.log",
            "seed": "munge/seed",
        }
        options = [
            f"--{name}{'' if name == 'socket' else '-file'}={self.folder / path}" for name, path in files.items()
        ]
        subprocess.run(["munged", *options], check=True)

    def _start_database(self):
        data = self.folder / "mysql"
        data.mkdir()
        shutil.chown(data, "mysql", "mysql")
        options = [f"--defaults-file={self.folder / 'mysql.cnf'}"]
        tell("mariadb-install-db", *options, "--auth-root-authentication-method=normal", "--skip-test-db")
        quiet = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.DEVNULL)
        subprocess.Popen(["mariadbd", *options, f"--socket={data}/socket"], start_new_session=True, **quiet)
        client = ("mariadb", f"--socket={data}/socket", "--user=root", "--execute")
        wait_until(lambda: answers(*client, "SELECT 1"), "the database's coming up")
        tell(*client, USER_OF_DATABASE)

    def start_accounting(self):
        """Start slurmdbd and wait until it answers."""
        subprocess.run(["slurmdbd"], check=True)
        wait_until(lambda: answers("sacctmgr", "--noheader", "list", "cluster"), "the accounting's coming up")

    def stop_accounting(self):
        """Stop slurmdbd; sacct fails, everything else works."""
        stop(self.folder / "slurmdbd.pid")

    def start_controller(self):
        """Start slurmctld and wait until it answers."""
        subprocess.run(["slurmctld"], check=True)
        wait_until(lambda: answers("scontrol", "ping"), "the controller's coming up")

    def stop_controller(self):
        """Stop slurmctld; jobs run on, every command to SLURM fails."""
        stop(self.folder / "slurmctld.pid")

    def set_min_job_age(self, seconds):
        """Let the controller forget a job so many seconds after its end, at its next look, once a minute."""
        path = SYSTEM / FILES[0]
        path.write_text(re.sub(r"MinJobAge=\d+", f"MinJobAge={seconds}", path.read_text()))
        tell("scontrol", "reconfigure")

    def states(self):
        """State of every node."""
        return tell("sinfo", "--noheader", "--Node", "--format=%T").split()

    def jobs(self):
        """State of every job that SLURM remembers, by its number."""
        columns = {
            "%i": "number",
            "%T": "state",
            "%m": "memory",
            "%l": "limit",
            "%P": "partition",
            "%k": "comment",
            "%Z": "folder",
        }
        lines = tell("squeue", "--noheader", "--states=all", f"--format={'|'.join(columns)}").splitlines()
        jobs = [dict(zip(columns.values(), line.split("|"), strict=True)) for line in lines]
        return {int(job.pop("number")): job for job in jobs}

    def start_node(self, node):
        """Start a node's daemon."""
        subprocess.run(["slurmd", "-N", node], check=True)

    def bring_back(self, node):
        """Start a crashed node's daemon; the node may be up by itself before it can be told so."""
        self.start_node(node)
        resume = ("scontrol", "update", f"nodename={node}", "state=resume", "reason=test")
        up = {"idle", "mixed", "allocated", "completing"}
        wait_until(lambda: self.states()[NODES.index(node)] in up or answers(*resume), f"{node}'s coming back")

    def crash_node(self, node):
        """Kill a node's daemon and every process of its jobs, as a power cut would, and mark the node as down."""
        jobs = tell("squeue", "--noheader", f"--nodelist={node}", "--format=%A").split()
        kill(int((self.folder / f"slurmd.{node}.pid").read_text()))
        kill_where(
            lambda command, variables: any(
                (f"SLURM_JOB_ID={job}" in variables and self._owns(variables)) or f"slurmstepd: [{job}." in command
                for job in jobs
            )
        )
        self.set_state(node, "down")

    def set_state(self, node, state):
        """Give a node a state: down, drain, resume."""
        tell("scontrol", "update", f"nodename={node}", f"state={state}", "reason=test")

    def reset(self):
        """Cancel what is left of a test and bring the nodes back."""
        answers("scancel", "--user=root")
        wait_until(self._all_idle, "the nodes' coming back")
        # SLURM follows parents to find what belongs to a job, and so misses what outlived its parent.
        kill_where(lambda _, variables: self._owns(variables))

    def _owns(self, variables):
        """Tell by its environment variables whether a process belongs to a job of this cluster."""
        return f"SLURM_CLUSTER_NAME={self.name}" in variables

    def _all_idle(self):
        """Tell whether all nodes are idle; resume those that are not on their way to it."""
        states = self.states()
        for node, state in zip(NODES, states, strict=True):
            if state not in ("idle", "mixed", "allocated", "completing"):
                answers("scontrol", "update", f"nodename={node}", "state=resume", "reason=test")
        return set(states) == {"idle"}


def kill_where(matches):
    """Kill the processes whose command and environment variables match."""
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(FileNotFoundError, ProcessLookupError, PermissionError):
            command, variables = (
                (process / name).read_bytes().decode(errors="replace") for name in ("cmdline", "environ")
            )
            if matches(command, variables.split("\0")):
                kill(int(process.name))


def kill(pid):
    """Kill a process, which may have ended by itself."""
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def tell(*command):
    """Run a command of SLURM and give what it printed."""
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def free_ports(n):
    """Find TCP ports that nobody listens on."""
    sockets = [socket.socket() for _ in range(n)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def stop(pid_file):
    """Stop the daemon that wrote this file, and wait until it is gone."""
    if not pid_file.exists():
        return
    pid = int(pid_file.read_text())
    for number in (signal.SIGTERM, signal.SIGKILL):
        if not running(pid):
            break
        os.kill(pid, number)
        for _ in range(40):
            if not running(pid):
                break
            time.sleep(0.25)
    pid_file.unlink(missing_ok=True)


def running(pid):
    """Tell whether a process runs; one that has ended and that nobody has asked for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
