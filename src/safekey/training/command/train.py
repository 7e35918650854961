"""Run `safekey train`: from the parsed command to a trained run folder."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from safekey.errors import UserError
from safekey.training.command import launch as launching
from safekey.training.command.checks import check_settings, refused_by_library
from safekey.training.command.dry_run import (
    PLAIN,
    Forecast,
    as_values,
    forecast,
    print_forecast,
    print_rows,
    row_counts,
    warnings,
)
from safekey.training.command.folder import RunFolder, resolved_config
from safekey.training.command.launch import Launch
from safekey.training.command.models import KEEPS_MASTERS, load_config, load_model, load_tokenizer
from safekey.training.command.recipe import Recipe, RunSettings, build_settings, find_recipe, load_recipe
from safekey.training.command.rows import TrainingRows, prepare_rows
from safekey.training.loop.callbacks import tidy_console
from safekey.training.loop.checkpoint import last_complete_checkpoint

if TYPE_CHECKING:
    from rich.console import Console

INTERRUPTED = 130


@dataclass(frozen=True)
class TrainRequest:
    """The arguments of `safekey train`.

    Attributes:
        recipe: name or path.
        overrides: `key=value`s.
        dry_run: print the plan and stop.
        launch, processes: how to train with several processes.
        passed_on: flags for accelerate.
        overwrite: start anew in a folder that holds another run.
    """

    recipe: str
    overrides: Sequence[str] = ()
    dry_run: bool = False
    launch: Launch = "none"
    processes: int | None = None
    passed_on: Sequence[str] = ()
    overwrite: bool = False


def execute(request: TrainRequest, console: Console, told: dict[str, Any] | None = None) -> int:
    """Train, or print the plan.

    Args:
        request: what to train.
        console: where to print.
        told: gets the plan's numbers as JSON values.

    Returns:
        0 when trained (now or earlier), 130 when interrupted, a worker's code when it failed.

    Raises:
        UserError: something in the recipe, the data, the model or the machine is wrong.
    """
    main = int(os.environ.get("RANK", "0")) == 0
    with tidy_console(main):
        return _execute(request, console, main, told)


def _execute(request: TrainRequest, console: Console, main: bool, told: dict[str, Any] | None) -> int:
    within = launching.worker_launch()
    processes = _processes(request) if within is None else int(os.environ.get("WORLD_SIZE", "1"))
    launch = within or request.launch
    recipe = load_recipe(request.recipe, request.overrides)
    settings = build_settings(recipe, processes=processes, elsewhere=_planned_elsewhere(request, recipe))
    folder = RunFolder(Path(str(settings.training.output_dir)))
    config = resolved_config(recipe, settings)
    told = {} if told is None else told
    told["output_dir"] = str(folder.path)
    goes_on = not request.dry_run and (within is not None or not request.overwrite)
    if within is None:
        for note in recipe.notes:
            console.print(f"note: {note}", **PLAIN)
    if goes_on and folder.finished:
        folder.check(config, {}, processes)
        if main:
            console.print(f"{folder.path}: this run is finished, its model lies in {folder.model}", **PLAIN)
            console.print("Nothing to do; --overwrite trains anew, another output_dir keeps both.", **PLAIN)
        return 0
    tokenizer = load_tokenizer(settings)
    rows = _load_rows(settings, tokenizer)
    to_note = warnings(settings, rows)
    if not rows.both_classes:
        settings.training.head_weight = 0.0
    if within is None:
        check_settings(settings, held_out=bool(rows.held_out), processes=processes)
    if main:
        folder.check_ours(_inputs(request, settings, rows))
    if goes_on and main:
        folder.check(config, rows.files, processes)
    if within is None:
        plan = _explain(console, settings, rows, launch, processes, to_note)
        told |= as_values(settings, rows, plan, to_note, launch=launch, processes=processes)
    if request.dry_run:
        if not settings.half:
            console.print("Planned in fp32, for a CPU; bf16=true or --launch fsdp2 plans for GPUs.", **PLAIN)
        console.print("Dry run: nothing was trained and nothing was written.", **PLAIN)
        return 0
    with folder.held() if within is None and _first_machine(request) else nullcontext():
        if not goes_on:  # only now that nothing in the recipe or the data stands in the way
            folder.clear()
        if main:
            folder.begin(config, _record(settings, rows, launch, processes), rows.problems)
        if within is None and launch != "none":
            return _train_in_workers(request, folder, settings, processes, console)
        return _train_here(settings, rows, tokenizer, folder, launch, console if main else None)


def _inputs(request: TrainRequest, settings: RunSettings, rows: TrainingRows) -> dict[str, str]:
    """Return the files and folders that this training reads: what the user calls each → its path."""
    named = {
        "recipe": str(find_recipe(request.recipe, Path.cwd())),
        "model_name_or_path": settings.model.model_name_or_path,
        "chat_template_path": settings.training.chat_template_path,
        **{f"data ({number})": path for number, path in enumerate(rows.files, 1)},
    }
    return {name: str(path) for name, path in named.items() if path and Path(path).expanduser().exists()}


def _first_machine(request: TrainRequest) -> bool:
    """Whether this command runs on the only machine, or on the first of several that share the run folder."""
    words = " ".join(request.passed_on).replace("=", " ").split()
    return "--machine_rank" not in words or words[words.index("--machine_rank") + 1 :][:1] == ["0"]


def _planned_elsewhere(request: TrainRequest, recipe: Recipe) -> bool:
    """Whether a dry run plans for GPUs, as its launch or its precision says."""
    asked = request.launch in KEEPS_MASTERS or recipe.values.get("bf16") or recipe.values.get("fp16")
    return request.dry_run and bool(asked)


def _processes(request: TrainRequest) -> int:
    """Check the launch against this machine; return the number of processes that will train."""
    gpus = torch.cuda.device_count()
    if request.launch == "none" and gpus > 1 and not request.dry_run:
        raise UserError(
            f"{gpus} GPUs are visible and one process uses one of them: add --launch fsdp2 --num-processes {gpus} "
            "(or ddp, zero3), or set CUDA_VISIBLE_DEVICES=0"
        )
    return launching.check_launch(request.launch, request.processes, gpus, planning=request.dry_run)


def _load_rows(settings: RunSettings, tokenizer: Any) -> TrainingRows:
    from safekey.training.encoding import check_chat_template

    training = settings.training
    kwargs = training.chat_template_kwargs if isinstance(training.chat_template_kwargs, dict) else None
    check_chat_template(tokenizer, chat_template_kwargs=kwargs, today=training.template_date)
    return prepare_rows(
        settings.data,
        tokenizer,
        seed=training.seed,
        max_length=int(training.max_length or 0),
        chat_template_kwargs=kwargs,
        today=training.template_date,
    )


def _explain(
    console: Console, settings: RunSettings, rows: TrainingRows, launch: Launch, processes: int, to_note: Sequence[str]
) -> Forecast:
    """Print what will happen, and what should not be missed."""
    model = settings.model.model_name_or_path
    console.print(f"model {model} -> {settings.training.output_dir}", **PLAIN)
    print_rows(console, rows)
    plan = forecast(settings, rows, load_config(settings), launch=launch, processes=processes)
    print_forecast(console, settings, plan, launch=launch, processes=processes)
    for line in to_note:
        console.print(f"WARNING: {line}", style="bold yellow", **PLAIN)
    return plan


def _record(settings: RunSettings, rows: TrainingRows, launch: Launch, processes: int) -> dict[str, Any]:
    arguments = settings.training.to_dict()
    return {
        "launch": launch,
        "processes": processes,
        "data": rows.files,
        "rows": row_counts(rows),
        "training_arguments": {key: value for key, value in arguments.items() if not key.endswith("_token")},
    }


def _train_in_workers(
    request: TrainRequest, folder: RunFolder, settings: RunSettings, processes: int, console: Console
) -> int:
    gpu = torch.cuda.is_available()
    config = launching.accelerate_config(request.launch, processes, gpu=gpu, half=bool(settings.training.bf16))
    arguments = ["train", request.recipe, *request.overrides]
    code = launching.start_workers(request.launch, config, folder.path, request.passed_on, arguments)
    if code == INTERRUPTED or code == -2:
        _say_how_to_go_on(folder, console)
        return INTERRUPTED
    if code:
        raise UserError(
            f"a worker failed (exit code {code}); its message is above. "
            "The same command goes on from the last checkpoint"
        )
    return 0


def _train_here(
    settings: RunSettings,
    rows: TrainingRows,
    tokenizer: Any,
    folder: RunFolder,
    launch: Launch,
    console: Console | None,
) -> int:
    """Train in this process (alone, or as one of several workers), export, and record the outcome."""
    from transformers.utils import logging
    from trl import get_peft_config

    from safekey.training.loop.trainer import SafeKeyTrainer

    logging.disable_progress_bar()  # of reading and writing weights; the training's own bar stays
    training = settings.training
    launched = int(os.environ.get("WORLD_SIZE", "1"))
    if launched != training.world_size:
        raise UserError(
            f"{launched} processes were launched, but accelerate sees {training.world_size}: each would train a model "
            "of its own. Use --launch (or accelerate's --multi_gpu, and ACCELERATE_USE_CPU=true on a CPU)"
        )
    if not rows.held_out:
        training.eval_strategy = "no"
    try:
        trainer = SafeKeyTrainer(
            model=load_model(settings, launch),
            args=training,
            train_dataset=rows.train,
            eval_dataset=rows.held_out or None,
            processing_class=tokenizer,
            peft_config=get_peft_config(settings.model),
        )
        checkpoint = last_complete_checkpoint(str(folder.path))
        if checkpoint and console:
            console.print(f"going on from {checkpoint}", **PLAIN)
        trainer.train(resume_from_checkpoint=checkpoint)
        trainer.export_model(str(folder.model))
    except KeyboardInterrupt:
        if console:
            with suppress(OSError):
                folder.mark("interrupted")
            if launching.worker_launch() is None:  # else the command that started the workers prints it
                _say_how_to_go_on(folder, console)
        return INTERRUPTED
    except Exception as error:
        explained = _explained(error, folder)
        if console:
            with suppress(OSError):  # a full disk must not hide what filled it
                folder.mark("failed", reason=str(explained or error)[:500])
        if explained is None or explained is error:
            raise
        raise explained from error
    if console:
        last = {name: value for entry in trainer.state.log_history for name, value in entry.items()}
        folder.mark("finished", metrics=last)
        console.print(f"finished: the model lies in {folder.model}, the log in {folder.path}", **PLAIN)
    return 0


def _say_how_to_go_on(folder: RunFolder, console: Console) -> None:
    checkpoint = last_complete_checkpoint(str(folder.path))
    where = f"goes on from {checkpoint}" if checkpoint else "starts again (there is no complete checkpoint yet)"
    console.print(f"\ninterrupted; the same command {where}", **PLAIN)


def _explained(error: Exception, folder: RunFolder) -> UserError | None:
    """Return the error as one line for the user, where the cause is known."""
    if isinstance(error, UserError):
        return error
    text = " ".join(str(error).split())
    if isinstance(error, torch.OutOfMemoryError):
        return UserError(
            "out of GPU memory: lower max_tokens_per_micro_batch or per_device_train_batch_size, set "
            "gradient_checkpointing=true, or use --launch fsdp2; --dry-run prints an estimate"
        )
    full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
    if full or "No space left" in text or "PytorchStreamWriter failed writing" in text:
        return UserError(
            f"{folder.path}: the disk is full ({text:.200}). Free some space; the same command goes on from the last "
            "complete checkpoint (save_total_limit keeps fewer of them)"
        )
    if "pip install" in text or text.startswith("Invalid "):  # a tracker that is not there, a negative rate, ...
        return UserError(f"{text:.300}")
    return refused_by_library(error)
