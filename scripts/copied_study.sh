#!/usr/bin/env bash
# Run a study on a machine that may be lost with its disk. The arguments behind the folder are those of `kedro run`:
#
#   scripts/copied_study.sh ~/study --env mentallam
#
# The folder, such as a mounted bucket, gets a copy of data/ every hour (or COPY_EVERY), at the end, and after a signal. The
# study is stopped for it and goes on, so that the copy is whole. On a new machine it goes on from the copy.
set -eu

# 128 + SIGUSR1: the run has written its state, and goes on when it is started again.
stopped_by_usr1=138

archive="$1/data.tar"
shift

if [[ -f $archive ]]; then
  tar --extract --file "$archive"
fi

# A signal to the job reaches the run as well; this script waits for its end and makes the copy.
trap : HUP INT TERM
while true; do
  code=0
  timeout --foreground --preserve-status --signal=USR1 "${COPY_EVERY:-1h}" .venv/bin/kedro run "$@" || code=$?
  # The old copy stays until the new one is whole.
  tar --create --file "$archive.new" --exclude=data/01_raw data
  mv "$archive.new" "$archive"
  if [[ $code -ne $stopped_by_usr1 ]]; then
    exit "$code"
  fi
done
