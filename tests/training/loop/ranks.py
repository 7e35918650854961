"""Several processes on one CPU, joined by gloo: forked, so that nothing has to be imported again."""

from __future__ import annotations

import os
import socket
import sys
import traceback
from collections.abc import Callable
from contextlib import closing


def in_ranks(world: int, action: Callable[[int], None], fsdp: bool = False) -> None:
    """Run `action(rank)` in each of `world` processes and wait for all; raise when one failed."""
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    pids = [_fork(rank, world, port, action, fsdp) for rank in range(world)]
    codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]
    assert codes == [0] * world, f"exit codes {codes}: see the output of the ranks"


def _fork(rank: int, world: int, port: int, action: Callable[[int], None], fsdp: bool) -> int:
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        places = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": world, "LOCAL_WORLD_SIZE": world}
        os.environ |= {name: str(value) for name, value in places.items()}
        os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"}
        os.environ["ACCELERATE_USE_CPU"] = "true"
        _forget_the_parent()
        if fsdp:
            _allow_fsdp_on_cpu()
        action(rank)
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _forget_the_parent() -> None:
    """Accelerate keeps its state in class attributes, which the parent's tests have filled."""
    from accelerate.state import AcceleratorState, GradientState, PartialState

    AcceleratorState._reset_state(True)
    GradientState._reset_state()
    PartialState._shared_state.clear()


def _allow_fsdp_on_cpu() -> None:
    """Accelerate knows FSDP on accelerators only; torch's fully_shard itself runs on a CPU with gloo.

    So we let accelerate take the two CPU processes for two GPUs, and only that: the wrapping, the optimiser's switch to
    DTensors, clipping and saving are its own code.
    """
    from accelerate.state import PartialState
    from accelerate.utils import DistributedType

    own = PartialState.__init__

    def init(self, *args, **kwargs):
        own(self, *args, **kwargs)
        if PartialState._shared_state.get("distributed_type") == DistributedType.MULTI_CPU:
            PartialState._shared_state["distributed_type"] = DistributedType.MULTI_GPU

    PartialState.__init__ = init
