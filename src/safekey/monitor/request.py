"""What `safekey monitor fit` and `safekey monitor eval` are asked for: every option, declared once"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from safekey.options import option, repeated

Head = Literal["understanding", "query_and_understanding"]
HEADS: tuple[Head, ...] = get_args(Head)
Method = Literal["platt", "temperature"]
METHODS: tuple[Method, ...] = get_args(Method)
Half = Literal["first", "second"]
Pooling = Literal["mean", "max", "last"]  # as the heads'; this file loads no torch


@dataclass(frozen=True, kw_only=True)
class FitRequest:
    """What `safekey monitor fit` is asked for."""

    model: str = ""
    data: tuple[str, ...] = option("labelled rows with thinking: a data file, or a finished evaluation's run folder; "
                                   "repeatable", repeated, default=(), metavar="FILE|RUN")  # fmt: skip
    fpr: float = option("the share of benign rows that may be flagged (default 0.05)", float, default=0.05,
                        metavar="SHARE", low=0.001, high=0.5)  # fmt: skip
    confidence: float = option("the confidence of that promise (default 0.95)", float, default=0.95, metavar="SHARE",
                               low=0.5, high=0.9999)  # fmt: skip
    head: Head = option("the head that decides (default query_and_understanding, which also reads rows without U)",
                        default="query_and_understanding", choices=HEADS)  # fmt: skip
    calibration: Method = option("how logits become probabilities (default platt)", default="platt", choices=METHODS)
    frozen: bool = option("train new heads on the model's frozen states, for a model that has none", bool,
                          default=False)  # fmt: skip
    pooling: Pooling = option("with --frozen: how a span becomes one vector (default mean)", default="mean",
                              choices=get_args(Pooling))  # fmt: skip
    train_share: float = option("with --frozen: the share of the behaviours that trains the heads (default 0.5); the "
                                "others calibrate", float, default=0.5, metavar="SHARE", low=0.1, high=0.9)  # fmt: skip
    half: Half | None = option("only this half of the behaviours, so that `monitor eval` can take the other",
                               choices=get_args(Half))  # fmt: skip
    seed: int = option("of the halves and of the frozen heads' rows (default 0)", int, default=0)
    label_column: str | None = option("the column that says whether a row's request is harmful", metavar="NAME")
    output: str | None = option("where the monitor goes (default: monitor/ in the run folder)", metavar="DIR")
    device: str | None = option("cuda, mps or cpu (default: the best there is)")
    dtype: str = option("of the model (default float32)", default="float32")
    batch_size: int = option("rows in a forward pass (default 16)", int, default=16, metavar="N", low=1)


@dataclass(frozen=True, kw_only=True)
class MeasureRequest:
    """What `safekey monitor eval` is asked for."""

    model: str = ""
    data: tuple[str, ...] = option("labelled rows with thinking that did not calibrate it: a data file, or a finished "
                                   "evaluation's run folder; repeatable", repeated, default=(),
                                   metavar="FILE|RUN")  # fmt: skip
    half: Half | None = option("only this half of the behaviours", choices=get_args(Half))
    seed: int = option("of the halves and of the bootstrap (default 0)", int, default=0)
    label_column: str | None = option("the column that says whether a row's request is harmful", metavar="NAME")
    output: str | None = option("write the numbers to a file as JSON", metavar="FILE")
    device: str | None = option("cuda, mps or cpu (default: the best there is)")
    dtype: str = option("of the model (default float32)", default="float32")
    batch_size: int = option("rows in a forward pass (default 16)", int, default=16, metavar="N", low=1)
