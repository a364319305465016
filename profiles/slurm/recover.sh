#!/usr/bin/env bash
# After Snakemake was killed: cancel the jobs that it left on the cluster, remove half-written files, unlock the folder, go on.
#   usage: profiles/slurm/recover.sh <the arguments of the snakemake command that was killed>      (or: make recover)
set -euo pipefail

here=$(pwd -P)
started=.snakemake/started # host and process of the last Snakemake that ran jobs
read -r host process 2>/dev/null < "$started" || host=
if [ -n "$host" ] && [ "$host" != "$(hostname)" ]; then
  echo "Snakemake was started on $host, as process $process: end it there and run this there. If $host is gone, or nothing runs there: rm $started" >&2
  exit 1
fi
for process in /proc/[0-9]*; do
  [ "$(readlink "$process/cwd" 2>/dev/null)" = "$here" ] || continue
  command=$(tr '\0' ' ' 2>/dev/null < "$process/cmdline") || continue
  case $command in
    *\ --mode\ *) ;;      # a job, not the process that submits jobs
    */bin/snakemake\ *|*-m\ snakemake\ *)
      echo "Snakemake still runs in this folder as process ${process#/proc/}: end it first (kill -INT)." >&2
      exit 1 ;;
  esac
done

# Snakemake names all jobs of a run by the run's id, which its log tells.
runs=$(grep -rhso 'SLURM run ID: [A-Za-z0-9_-]*' .snakemake/log | sed 's/.*: //' | sort -u | paste -sd, -) || true
if [ -n "$runs" ]; then
  orphans() { squeue --noheader --user="$(id -un)" --name="$runs" --format=%A; }
  jobs=$(orphans)
  if [ -n "$jobs" ]; then
    echo "Cancelling the jobs" $jobs
    scancel $jobs
    while [ -n "$(orphans)" ]; do sleep 1; done
  fi
fi

find -L results -name '*.part' -type f -print -delete
snakemake --unlock "$@" # options first, for `--` and targets may follow
exec snakemake "$@"
