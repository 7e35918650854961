"""Train with several processes: start the same command again through `accelerate launch`.

The parent process checks recipe, data, tokenizer and run folder, prints the plan, writes accelerate's configuration and
starts the workers. Flags after `--` are passed to accelerate (docs/multi-gpu.md).
"""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import yaml

from safekey.errors import UserError
from safekey.run_folder import make_private, write

Launch = Literal["none", "ddp", "fsdp2", "zero3"]
LAUNCHES: tuple[Launch, ...] = ("none", "ddp", "fsdp2", "zero3")

CHOICE = "SAFEKEY_LAUNCH"
"""Environment variable that tells a worker how it was launched."""


def worker_launch() -> Launch | None:
    """Return how this worker was launched; None when this process is the user's own command."""
    if int(os.environ.get("WORLD_SIZE", "1")) < 2 and CHOICE not in os.environ:
        return None
    chosen = os.environ.get(CHOICE)
    if chosen in LAUNCHES:
        return chosen
    if os.environ.get("ACCELERATE_USE_DEEPSPEED", "").lower() == "true":  # `accelerate launch -m safekey.cli train ...`
        return "zero3"
    return "fsdp2" if os.environ.get("ACCELERATE_USE_FSDP", "").lower() == "true" else "ddp"


def check_launch(launch: Launch, processes: int | None, gpus: int, *, planning: bool = False) -> int:
    """Check a launch against the machine, unless it is only planned; return the number of processes.

    Raises:
        UserError: something is missing; the message says what to do instead.
    """
    if launch == "none":
        if processes not in (None, 1):
            raise UserError(f"--num-processes {processes} needs --launch ddp, fsdp2 or zero3")
        return 1
    if processes is None or processes < 1:
        raise UserError(f"--launch {launch} needs --num-processes N (over all machines together)")
    if planning:
        return processes
    if launch == "zero3" and importlib.util.find_spec("deepspeed") is None:
        raise UserError(
            "--launch zero3 needs DeepSpeed, which is not installed: pip install 'safekey[deepspeed]', "
            "or use --launch fsdp2"
        )
    if launch != "ddp" and not gpus:
        raise UserError(
            f"--launch {launch} needs GPUs: without one, accelerate would silently run plain DDP; use --launch ddp here"
        )
    return processes


def accelerate_config(launch: Launch, processes: int, *, gpu: bool, half: bool) -> dict[str, Any]:
    """Return the contents of accelerate's configuration file for a launch."""
    config: dict[str, Any] = {
        "compute_environment": "LOCAL_MACHINE",
        "debug": False,
        "distributed_type": {"fsdp2": "FSDP", "zero3": "DEEPSPEED"}.get(launch, "MULTI_GPU"),
        "downcast_bf16": "no",
        "machine_rank": 0,
        "main_training_function": "main",
        "mixed_precision": "bf16" if half else "no",
        "num_machines": 1,
        "num_processes": processes,
        "rdzv_backend": "static",
        "same_network": True,
        # MULTI_GPU with use_cpu is how accelerate starts several CPU processes without MPI.
        "use_cpu": not gpu,
    }
    if launch == "fsdp2":
        config["fsdp_config"] = {
            "fsdp_version": 2,
            "fsdp_auto_wrap_policy": "TRANSFORMER_BASED_WRAP",
            "fsdp_reshard_after_forward": True,
            "fsdp_offload_params": False,
            "fsdp_activation_checkpointing": False,  # the recipe's gradient_checkpointing does that
            "fsdp_cpu_ram_efficient_loading": False,  # the self-test needs the weights on every rank before sharding
            "fsdp_state_dict_type": "FULL_STATE_DICT",
        }
    if launch == "zero3":
        config["deepspeed_config"] = {
            "zero_stage": 3,
            "offload_optimizer_device": "cpu",
            "offload_param_device": "cpu",
            "zero3_init_flag": True,
            "zero3_save_16bit_model": True,
            "deepspeed_multinode_launcher": "standard",
        }
    return config


def launch_command(config_file: Path, passed_on: Sequence[str], arguments: Sequence[str]) -> list[str]:
    """Return the command that starts the workers."""
    port = [] if any("main_process_port" in flag or "num_machines" in flag for flag in passed_on) else ["0"]
    return [
        *(sys.executable, "-m", "accelerate.commands.launch"),
        *("--config_file", str(config_file)),
        *(["--main_process_port", *port] if port else []),  # 0: any free port, so that two runs do not collide
        *passed_on,
        *("-m", "safekey.cli", *arguments),
    ]


def start_workers(
    launch: Launch, config: dict[str, Any], folder: Path, passed_on: Sequence[str], arguments: Sequence[str]
) -> int:
    """Write accelerate's configuration into the run folder, start the workers and wait for them.

    Returns:
        The workers' exit code; 130 when the user interrupted them.
    """
    config_file = folder / "accelerate.yaml"
    try:
        make_private(folder)
        write(config_file, yaml.safe_dump(config))
    except OSError as error:
        raise UserError(f"output_dir {folder}: cannot be written: {error.strerror}; give another one") from error
    command = launch_command(config_file, passed_on, arguments)
    # accelerate's launcher for several processes does not pass `use_cpu` on; without it each would train alone.
    chosen = {CHOICE: launch} | ({"ACCELERATE_USE_CPU": "true"} if config["use_cpu"] else {})
    workers = subprocess.Popen(command, env=os.environ | chosen)  # noqa: S603 - our own words and the user's
    asked = False

    def pass_on(number: int, frame: Any) -> None:
        nonlocal asked
        asked = True
        workers.terminate()  # they save and stop; otherwise they would continue without the parent

    before = signal.signal(signal.SIGTERM, pass_on)
    try:
        code = workers.wait()
        return 130 if asked else code
    except KeyboardInterrupt:
        # The terminal has sent SIGINT to the workers as well; a second one would kill them while they save.
        previous = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            workers.wait()
        finally:
            signal.signal(signal.SIGINT, previous)
        return 130
    finally:
        signal.signal(signal.SIGTERM, before)
