#!/usr/bin/env bash
# Run a study as a SLURM job that goes on after each preemption; the arguments are those of `kedro run`:
#
#   sbatch scripts/slurm_cv.sh --env mentallam
#
# or one job per fold, at the same time, with a tracking server in MLFLOW_TRACKING_URI:
#
#   first=$(sbatch --parsable scripts/slurm_cv.sh --env mentallam --to-nodes open_cv_run)
#   folds=$(sbatch --parsable --array=0-4 --dependency=afterok:$first scripts/slurm_cv.sh --env mentallam)
#   sbatch --dependency=afterok:$folds scripts/slurm_cv.sh --env mentallam --from-nodes close_cv_run,reporting.collect_predictions
#
# Options of sbatch before the script's name replace those below. SLURM sends SIGUSR1 to this script alone, 120 seconds
# before the time limit or, with PreemptParameters=send_user_signal, when it preempts the job.
#SBATCH --job-name=mentallam
#SBATCH --gres=gpu:1
#SBATCH --cpus-per-task=8
#SBATCH --mem=64G
#SBATCH --time=24:00:00
#SBATCH --signal=B:USR1@120
#SBATCH --requeue
#SBATCH --open-mode=append
set -u

# A study that never comes further would be started again for ever.
max_restarts=100
# 128 + the signal: the run has written its state, and goes on when it is started again.
stopped_by_usr1=138
stopped_by_term=143

export PATH="$PWD/.venv/bin:$PATH"
export OMP_NUM_THREADS="${SLURM_CPUS_PER_TASK:-1}"
export PYTHONUNBUFFERED=1

arguments=("$@")
if [[ -n ${SLURM_ARRAY_TASK_ID:-} ]]; then
  arguments+=(--pipelines cv_training --namespaces "fold_$SLURM_ARRAY_TASK_ID")
fi

# srun makes the study a job step, so that SLURM's own SIGTERM reaches it, and passes on the signals that it gets.
study=
terminated=
trap '[[ $study ]] && kill -s USR1 "$study"' USR1
trap 'terminated=yes; [[ $study ]] && kill -s TERM "$study"' TERM
srun --ntasks=1 --cpus-per-task="$OMP_NUM_THREADS" kedro run "${arguments[@]}" &
study=$!

# A signal ends `wait` with a code of its own; the study's is known when it is gone.
wait "$study"
while kill -0 "$study" 2>/dev/null; do
  wait "$study"
done
wait "$study"
code=$?

if [[ $code -eq $stopped_by_usr1 && ${SLURM_RESTART_COUNT:-0} -lt $max_restarts ]]; then
  scontrol requeue "$SLURM_JOB_ID"
elif [[ $code -eq $stopped_by_term && ! $terminated ]]; then
  # SLURM has preempted the step. It starts again only a job that it has ended itself, so wait for that end.
  sleep 600 &
  wait "$!"
fi
exit "$code"
