"""What a grid runs: the user's request, and one job of it with everything that its process needs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from safekey.evals.request import ALLOWED_UNSCORED
from safekey.grid.arms import MARGIN, REFERENCE, Arm
from safekey.grid.folder import Job

if TYPE_CHECKING:
    from safekey.engines.vllm.service import Remote
    from safekey.evals.request import EvalRequest
    from safekey.training.command.launch import Launch


@dataclass(frozen=True, kw_only=True)
class GridRequest:
    """A grid as the user asks for it.

    Attributes:
        recipe: what every arm trains, by name or path.
        overrides: `key=value`s for every arm.
        arms: by name, in the order of the tables.
        seeds: of the trainings.
        evaluation: how each model is evaluated; its model and output are set for each job.
        output: the grid's folder.
        reference: the arm that the others are compared with.
        margin: how much worse ORR and reasoning may be, 0–1.
        allow_unscored: compare up to this share of missing verdicts; 1: always.
        judges: whose verdicts are compared, where several judged.
        names_harm: MODULE:FUNCTION that says whether U names the request; None: shared words.
        rows: "same" trains every seed on the same rows; "drawn" gives each seed its own draw, the same for every arm:
            the file that names the seed, a bootstrap, or a share.
        rows_share: with "drawn": this share of the rows, each once.
        jobs: how many at a time; None: as many as there is room for.
        launch, processes: how each training runs.
        executor: where jobs run: as processes of this machine, or as jobs of a Slurm cluster.
        slurm: options of sbatch.
    """

    recipe: str
    overrides: Sequence[str] = ()
    arms: Mapping[str, Arm]
    seeds: Sequence[int]
    evaluation: EvalRequest
    output: str
    reference: str = REFERENCE
    margin: float = MARGIN
    allow_unscored: float = ALLOWED_UNSCORED
    judges: Sequence[str] = ()
    names_harm: str | None = None
    rows: Literal["same", "drawn"] = "same"
    rows_share: float | None = None
    jobs: int | None = None
    launch: Launch = "none"
    processes: int | None = None
    executor: Literal["local", "slurm"] = "local"
    slurm: Mapping[str, str] = field(default_factory=dict)

    @property
    def shared(self) -> tuple[str, ...]:
        """The overrides of every arm: the user's, and how rows are drawn."""
        share = () if self.rows_share is None else (f"rows_share={self.rows_share}",)
        return (*self.overrides, *(() if self.rows == "same" else ("rows=drawn",)), *share)


@dataclass(frozen=True, slots=True)
class Task:
    """One job and what its process needs.

    Attributes:
        job: arm, seed and folder.
        request: the grid's.
        base: the model before training.
        threads: torch's, on a CPU.
        gpus: which GPUs it sees; empty: all.
        stage: what this process does of it.
        served: the server of many that its evaluation asks; None: an engine of its own.
        served_as: the model's name there.
        watched: whether the process that starts it records how it ends (a Slurm job's).
    """

    job: Job
    request: GridRequest
    base: str
    threads: int = 1
    gpus: tuple[str, ...] = ()
    stage: Literal["all", "train", "evaluate"] = "all"
    served: Remote | None = None
    served_as: str = ""
    watched: bool = False

    @property
    def overrides(self) -> tuple[str, ...]:
        """The training's overrides: the user's, the arm's, seed and folder."""
        own = (f"seed={self.job.seed}", f"output_dir={self.job.train}")
        return (*self.request.shared, *self.request.arms[self.job.arm].overrides, *own)
