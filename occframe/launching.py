"""torchrun as ``occframe run`` starts it: how its processes ended is told in a line, not by traces of its own calls.

python -m occframe.launching --standalone --nproc-per-node 2 -m occframe run pipeline.yaml
"""

from __future__ import annotations

import logging
import signal
import sys
from collections.abc import Sequence

_INTERRUPTED = 130


def main(arguments: Sequence[str]) -> int:
    """Start the processes and wait. Returns the exit status: 128 and the signal that ended this, 1 for a process that
    failed, 0 else."""
    from torch.distributed import run
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    logging.disable(logging.CRITICAL)  # of this process alone, which tells of every signal it hands on
    try:
        run.main(arguments)
    except SignalException as stopped:
        return 128 + int(stopped.sigval)
    except ChildFailedError as failed:
        rank, failure = failed.get_first_failure()
        status = failure.exitcode
        if status == _INTERRUPTED:
            return status
        how = f"signal {signal.Signals(-status).name}" if status < 0 else f"status {status}"
        remedy = "run the same command again to go on from the last checkpoint" if status < 0 else "see above"
        print(f"error: process {rank} of this run ended with {how}\n  -> {remedy}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
