#!/usr/bin/env bash
# A cohort on SLURM. Each task of the array takes its share of the cases that wait.
#
#   1. napari-resunet cohort IN OUT --prepare              finds the CTs and writes OUT/waiting.txt
#   2. sbatch --array=1-20 --export=ALL,OUT=/path/to/OUT napari-resunet.sh
#   3. napari-resunet cohort IN OUT --prepare              brings manifest.csv and index.html up to date
#
# Do 2 and 3 again until nothing waits: what is done is not done twice, and a case that was cut off waits again.
# IN and OUT must be seen by every node, by the same path.
#SBATCH --job-name=napari-resunet
#SBATCH --cpus-per-task=4
#SBATCH --mem=8G
#SBATCH --time=04:00:00
#SBATCH --signal=TERM@60
#SBATCH --output=napari-resunet-%A_%a.log
set -uo pipefail

: "${OUT:?set it to the folder of the cohort}"
: "${SLURM_ARRAY_TASK_ID:?submit this with sbatch --array=1-N}"
first=${SLURM_ARRAY_TASK_MIN:-1}
count=${SLURM_ARRAY_TASK_COUNT:-1}
export OMP_NUM_THREADS=${SLURM_CPUS_PER_TASK:-1}

# A crash takes the rest of its batch with it, so a batch is short; it is long enough to load the model for.
# At the end of the time SLURM sends TERM: the case at work is put down (130), and no other batch begins (255).
export OUT
awk -v turn=$((SLURM_ARRAY_TASK_ID - first)) -v count="$count" '(NR - 1) % count == turn' "$OUT/waiting.txt" |
  xargs -r -n 25 bash -c '
    srun --ntasks=1 napari-resunet cohort-case "$OUT" "$@"
    status=$?
    [ "$status" -eq 130 ] && exit 255
    exit "$status"' cohort-case
# 123: some cases are not done; the manifest says which, and why
case ${PIPESTATUS[1]} in
  0) exit 0 ;;
  123) exit 1 ;;
  *) exit 130 ;;
esac
