"""A Slurm that runs its arrays on this machine: its commands as shell scripts."""

from pathlib import Path

# Tasks run side by side; `state/` has the state of each task, `batch.sh` the submitted script.
COMMANDS = {
    "sbatch": """
cp "$1" "$place/batch.sh"
last=$(sed -n 's/^#SBATCH --array=0-\\([0-9]*\\).*/\\1/p' "$1")
cpus=$(sed -n 's/^#SBATCH --cpus-per-task=//p' "$1")
for task in $(seq 0 "${last:-0}"); do
    echo "$1" >"$place/script_$task"
    CPUS=$cpus start_task "$task" &
done
echo "Submitted batch job 4242"
""",
    "start_task": """
export SLURM_ARRAY_JOB_ID=4242 SLURM_ARRAY_TASK_ID=$1 SLURM_JOB_ID=$((4300 + $1))
export SLURM_NTASKS=1 SLURM_JOB_NUM_NODES=1 SLURM_NODEID=0 SLURM_PROCID=0 SLURM_LOCALID=0
export SLURM_CPUS_PER_TASK=$CPUS
exec >"$place/task_$1.log" 2>&1
state="$place/state/4242_$1"
echo REQUEUED >"$state"
while [[ $(cat "$state") == REQUEUED ]]; do
    echo RUNNING >"$state"
    bash "$(cat "$place/script_$1")"
done
echo COMPLETED >"$state"
""",
    "srun": """
while [[ $1 == --* ]]; do
    case $1 in
    --output) output=$2; shift 2 ;;
    --error) error=$2; shift 2 ;;
    *) shift ;;
    esac
done
named() { sed "s/%A/$SLURM_ARRAY_JOB_ID/g; s/%a/$SLURM_ARRAY_TASK_ID/g; s/%t/0/g" <<<"$1"; }
mkdir -p "$(dirname "$(named "$output")")"
"$@" >>"$(named "$output")" 2>>"$(named "$error")"
""",
    "sacct": """
echo 'JobID|State|NodeList'
for file in "$place"/state/*; do echo "$(basename "$file")|$(cat "$file")|here"; done
""",
    "scontrol": """
echo "$@" >>"$place/scontrol.log"
echo REQUEUED >"$place/state/$2"
""",
    "scancel": """
echo "$@" >>"$place/scancel.log"
""",
}


def install(place: Path) -> Path:
    """Write the commands.

    Args:
        place: an empty directory; the commands keep their records there.

    Returns:
        The directory of the commands, for PATH.
    """
    (place / "state").mkdir()
    commands = place / "bin"
    commands.mkdir()
    for name, text in COMMANDS.items():
        (commands / name).write_text(f"#!/usr/bin/env bash\nplace='{place}'{text}", "utf-8")
        (commands / name).chmod(0o755)
    return commands
