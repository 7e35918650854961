"""A Slurm cluster of its own for tests: controller, one node and munge on this machine, everything below one folder."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PROGRAMS = ("slurmctld", "slurmd", "munged", "sbatch", "srun", "squeue", "scontrol", "scancel")
CPUS = 2
_CONFIG = """ClusterName=safekeytest
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller}
SlurmdPort={node}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={home}/munge.sock,cred_expire=5
StateSaveLocation={home}/state
SlurmdSpoolDir={home}/spool
SlurmctldPidFile={home}/slurmctld.pid
SlurmdPidFile={home}/slurmd.pid
SlurmctldLogFile={home}/slurmctld.log
SlurmdLogFile={home}/slurmd.log
SlurmdParameters=config_overrides
ProctrackType=proctrack/pgid
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
MailProg=/bin/true
ReturnToService=2
KillWait=20
MinJobAge={memory}
MaxJobCount={most}
SchedulerParameters=sched_interval=1,bf_interval=1
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
PartitionName=closed Nodes=ALL MaxTime=INFINITE State=DOWN
PartitionName=short Nodes=ALL MaxTime=1 State=UP
"""


def missing() -> str:
    """Why there can be no cluster here; "" if there can."""
    lacking = [name for name in PROGRAMS if shutil.which(name) is None and not Path("/usr/sbin", name).exists()]
    if lacking:
        return f"Slurm is not installed here: no {', '.join(lacking)}"
    return "" if os.geteuid() == 0 else "the test's controller and node run as root"


@contextmanager
def cluster(home: Path, *, memory: int = 300, most: int = 10000) -> Iterator[dict[str, str]]:
    """Run a cluster while the block runs.

    Args:
        home: a folder for everything.
        memory: seconds that Slurm remembers a job that has ended.
        most: how many jobs it takes.

    Yields:
        the environment in which Slurm's commands find it.
    """
    for name in ("state", "spool"):
        (home / name).mkdir(parents=True)
    home.chmod(0o755)
    config = home / "slurm.conf"
    values = {"host": socket.gethostname().split(".")[0], "controller": _port(), "node": _port(), "home": home}
    config.write_text(_CONFIG.format(**values, memory=memory, most=most, cpus=CPUS))
    (home / "munge.key").write_bytes(os.urandom(128))
    (home / "munge.key").chmod(0o600)
    environment = {**os.environ, "SLURM_CONF": str(config), "PATH": f"{os.environ['PATH']}:/usr/sbin"}
    running: list[subprocess.Popen[bytes]] = []

    def begin(*command: str) -> None:
        with (home / f"{command[0]}.out").open("wb") as out:
            running.append(subprocess.Popen(command, env=environment, stdout=out, stderr=out, start_new_session=True))

    try:
        files = (f"--{name}-file={home}/munged.{name}" for name in ("pid", "log", "seed"))
        begin("munged", "-F", "--force", f"--key-file={home}/munge.key", f"--socket={home}/munge.sock", *files)
        _until(lambda: (home / "munge.sock").exists(), running, home)
        begin("slurmctld", "-D")
        begin("slurmd", "-D", "-N", str(values["host"]))
        _until(lambda: b"idle" in _said(environment, "sinfo", "-h", "-o", "%T"), running, home)
        yield environment
    finally:
        _said(environment, "scancel", "--user=root", "--signal=KILL", "--full")
        for one in reversed(running):
            one.terminate()
            try:
                one.wait(20)
            except subprocess.TimeoutExpired:
                one.kill()
                one.wait()


def _said(environment: dict[str, str], *command: str) -> bytes:
    return subprocess.run(command, env=environment, capture_output=True, check=False, timeout=60).stdout


def _until(true, running: list[subprocess.Popen[bytes]], home: Path) -> None:  # type: ignore[no-untyped-def]
    end = time.monotonic() + 90
    while not true():
        for one in running:
            assert one.poll() is None, f"{one.args} ended: {_tail(home)}"
        assert time.monotonic() < end, f"no cluster after 90 seconds: {_tail(home)}"
        time.sleep(0.3)


def _tail(home: Path) -> str:
    return "\n".join(f"{file.name}: {file.read_text(errors='replace')[-800:]}" for file in sorted(home.glob("*.log")))


def _port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])
