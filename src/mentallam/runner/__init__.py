"""Kedro's runner of this project: one that can train the folds of a cross-validation in several processes.

`kedro run --params cluster.backend=process` places each fold on an engine: processes of this machine, Ray, or SLURM
through submitit. A fold is a unit of work that can be killed and repeated, since the same command goes on where it was
interrupted; so there is no scheduler here, only the engines' own.
"""

from mentallam.runner.fold_runner import FoldRunner as FoldRunner
