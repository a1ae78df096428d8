#!/usr/bin/env bash
# Does lyricgen work on the GPU?
# scripts/check_gpu.sh [--accelerator gpu] [--minutes 8] [--jobs N] [PART ...]
#
# All cells, samplers and precisions, hybrid models, memory, Muon, averaged weights, TF32, DDP
# with one process, filling gaps and n-grams train on the device, resume and write texts there.
# Their perplexities must equal those of the CPU within rounding, and resumed runs must equal whole
# runs to the bit. A run is killed and resumed, a sweep runs four jobs, and the speed is compared
# with that of the plain loop.
#
# A failed part stops no other part. The last output is a table of all checks. If OUT is set,
# $OUT/check_gpu.txt has the table and $OUT/check_gpu.log the output of failed parts. Everything
# else lies in a temporary directory, and nothing is installed. N parts run at a time, by default
# one for two cores. `--accelerator cpu` tries the script where there is no GPU.
#
# Exit status: 0 if all is well or there is no GPU, 1 if a check failed, 2 if a package is missing
# or an argument is wrong.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 2

all="cells kernels samplers lines lines_carried precisions models mixture product memory"
all="$all trainers fill ngram stop default sweep speed"
accelerator=gpu minutes=8 at_once=$((($(nproc) + 1) / 2)) parts=""
while [ $# -gt 0 ]; do
    case $1 in
        --accelerator) accelerator=${2:-} && shift ;;
        --minutes) minutes=${2:-} && shift ;;
        --jobs) at_once=${2:-} && shift ;;
        *) parts="$parts $1" ;;
    esac
    shift
done
for part in ${parts:=$all}; do
    [[ " $all " == *" $part "* ]] || { echo "$part: choose parts from: $all"; exit 2; }
done
[[ $accelerator =~ ^(cpu|gpu)$ ]] || { echo "--accelerator: choose cpu or gpu"; exit 2; }
[[ $minutes =~ ^[1-9][0-9]*$ ]] || { echo "--minutes: give a whole number from 1"; exit 2; }
[[ $at_once =~ ^[1-9][0-9]*$ ]] || { echo "--jobs: give a whole number from 1"; exit 2; }

missing=$(python3 - <<'PY'
import re, tomllib
from importlib.metadata import PackageNotFoundError, version
absent = []
for wanted in tomllib.load(open("pyproject.toml", "rb"))["project"]["dependencies"]:
    name = re.match(r"[\w-]+", wanted)[0]
    try:
        version(name)
    except PackageNotFoundError:
        absent.append(name)
print(*absent)
PY
) || { echo "python3 must be Python 3.11 or newer"; exit 2; }
[ -z "$missing" ] || { echo "packages missing: $missing: install lyricgen as README says"; exit 2; }
if [ "$accelerator" = gpu ] &&
    ! python3 -c 'import sys, torch; sys.exit(not torch.cuda.is_available())'; then
    echo "no GPU: nothing to check; --accelerator cpu tries the script on the CPU"
    exit 0
fi

work=$(mktemp -d)
out=${OUT:-$work}
mkdir -p "$out"
mkdir -p "$work/rows" "$work/log" "$work/site/lyricgen-0.dist-info"
# Where lyricgen is not installed, its code is used from here, with a version that says so.
printf 'Metadata-Version: 2.1\nName: lyricgen\nVersion: 0\n' \
    >"$work/site/lyricgen-0.dist-info/METADATA"
python3 -c 'from importlib.metadata import version; version("lyricgen")' 2>"$work/log/shell" ||
    export PYTHONPATH="$PWD/src:$work/site${PYTHONPATH:+:$PYTHONPATH}"
export LYRICGEN_OUTPUTS="$work/outputs" PYTHONUNBUFFERED=1
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-2}
export CUBLAS_WORKSPACE_CONFIG=:4096:8  # without it cuBLAS is not deterministic

# Print the table of all rows so far, in the order of the parts. A part without a row has failed.
finish() {
    local part files=() broken=()
    for part in $parts; do
        [ -s "$work/rows/$part" ] || row "$part" - failed "ended without a result"
        files+=("$work/rows/$part")
        ! cut -f3 "$work/rows/$part" | grep -qx failed || broken+=("$part")
    done
    {
        printf '%-13s %-58s %-9s %s\n' part command state figure
        cat "${files[@]}" | while IFS=$'\t' read -r part command state figure; do
            printf '%-13s %-58s %-9s %s\n' "$part" "$command" "$state" "$figure"
        done
        printf '%s s, %s ok, %s failed, %s not supported by the device\n' "$SECONDS" \
            "$(cut -f3 "${files[@]}" | grep -cx ok)" \
            "$(cut -f3 "${files[@]}" | grep -cx failed)" \
            "$(cut -f3 "${files[@]}" | grep -cx cannot)"
    } | tee "$out/check_gpu.txt"
    for part in "${broken[@]}"; do
        echo "=== $part" && tail -n 150 "$work/log/$part"
    done >"$out/check_gpu.log" 2>&1
    if [ "${#broken[@]}" -gt 0 ]; then
        echo "output of the failed parts: $out/check_gpu.log"
        [ "$out" = "$work" ] || rm -rf "$work"
        exit 1
    fi
    rm -rf "$work"
    exit 0
}
trap finish EXIT
trap 'kill $(jobs -p) 2>>"$work/log/shell"; exit 1' INT TERM

# row PART COMMAND STATE FIGURE
row() { printf '%s\t%s\t%s\t%s\n' "$@" >>"$work/rows/$1"; }

# Run Python, as long as time is left: call PART ARGUMENT ...
call() {
    local part=$1 left=$((minutes * 60 - SECONDS))
    shift
    [ "$left" -gt 0 ] || { echo "no time left" >>"$work/log/$part"; return 1; }
    timeout --foreground -k 10 "$left" python3 "$@" >>"$work/log/$part" 2>&1
}

# Let check_gpu.py judge a part and write its rows: judge PART ARGUMENT ...
judge() {
    local part=$1
    call "$part" scripts/check_gpu.py --part "$part" --rows "$work/rows/$part" "${@:2}" ||
        row "$part" - failed "$(grep -v '^ *$' "$work/log/$part" | tail -n 1 | tr '\t' ' ')"
}

# A run of a second or two. Without dropout a GPU draws nothing that a CPU would draw otherwise.
small="recipe=none hidden_size=32 data.max_chars=4000 data.batch_size=8 data.num_steps=20
    model.dropout=0 scheduler=none trainer.max_epochs=2 trainer.deterministic=true callbacks.baseline.max_order=2
    callbacks.samples.count=1 callbacks.samples.length=8"

# Train a job for each combination: as a whole, stopped after an epoch and resumed, and on the CPU
# (in full precision, without TF32). train PART OVERRIDE ...
train() {
    local part=$1 on_cpu=() one
    shift
    for one in "$@"; do
        case $one in
            trainer=* | trainer.devices=* | trainer.precision=*) ;;
            *) on_cpu+=("$one") ;;
        esac
    done
    # shellcheck disable=SC2086
    set -- -m lyricgen.train -m $small seed=1 "$@" trainer.accelerator=$accelerator
    call "$part" "$@" "hydra.sweep.dir=$work/$part/whole"
    call "$part" "$@" trainer.max_epochs=1 "hydra.sweep.dir=$work/$part/resumed"
    call "$part" -m lyricgen.train "resume=$work/$part/resumed" trainer.max_epochs=2
    # shellcheck disable=SC2086
    call "$part" -m lyricgen.train -m $small seed=1 "${on_cpu[@]}" trainer.accelerator=cpu \
        "hydra.sweep.dir=$work/$part/cpu"
    judge "$part" jobs "$work/$part" --accelerator "$accelerator" --common "$small seed=1"
}

cells() {
    local names
    names=$(basename -s .yaml conf/cell/*.yaml | paste -sd ,)
    train cells "cell=$names"
}
kernels() { train kernels cell=rnn,gru,lstm cell.kernel=fused; }
samplers() { train samplers sampler=consecutive,random; }
lines() { train lines data=dino sampler=lines; }
lines_carried() {
    train lines_carried data=dino sampler=lines_carried data.batch_size=1 data.max_chars=400
}
precisions() { train precisions trainer.precision=32-true,16-mixed,bf16-mixed,bf16-true,64-true; }
models() {
    train models model=recurrent,hybrid optimizer=adamw,muon callbacks.average.enabled=true
}
mixture() { train mixture model=hybrid trainer.precision=32-true,bf16-mixed,bf16-true,64-true; }
product() {
    train product model=hybrid model.combination=product model.short_list=20 \
        trainer.precision=32-true,bf16-mixed,bf16-true,64-true
}
memory() { train memory model=hybrid model.combination=mixture,product memory=cache; }
trainers() { train trainers trainer=gpu,ddp trainer.devices=1; }
fill() { train fill objective=fill; }
ngram() {
    small=${small/model.dropout=0/}  # n-grams have none
    train ngram model=ngram
}

# Stop a run that draws at random by SIGTERM and resume it; it must equal an undisturbed run.
# resume PART OVERRIDE ...
resume() {
    local part=$1
    shift
    set -- -m lyricgen.train trainer.max_epochs=12 callbacks.early_stopping=false \
        trainer.deterministic=true trainer.accelerator=$accelerator "$@"
    local run=$work/$part/stopped process status
    call "$part" "$@" "hydra.run.dir=$work/$part/whole"
    # not by `timeout`, which would send the signal twice
    python3 "$@" "hydra.run.dir=$run" >>"$work/log/$part" 2>&1 &
    process=$!
    while [ ! -f "$run/metrics.csv" ] || [ "$(wc -l <"$run/metrics.csv")" -lt 3 ]; do
        kill -0 $process && [ $SECONDS -lt $((minutes * 60)) ] || break
        sleep 0.05
    done 2>>"$work/log/$part"
    kill -TERM $process 2>>"$work/log/$part"
    (sleep 60 && kill -KILL $process) >>"$work/log/$part" 2>&1 &
    wait $process
    status=$?
    kill $! 2>>"$work/log/$part"
    call "$part" -m lyricgen.train "resume=$run"
    if call "$part" -m lyricgen.generate "$run" --length 20 --count 64; then
        row "$part" "generate RUN --length 20 --count 64" ok "on the CPU, as the command always does"
    else
        row "$part" "generate RUN --length 20 --count 64" failed "$(tail -n 1 "$work/log/$part")"
    fi
    judge "$part" stopped "$work/$part" --status $status
}

stop() {
    # shellcheck disable=SC2086
    resume stop ${small/trainer.max_epochs=2/} layers=2 depth.dropout=0.2 model.dropout=0.3 \
        model.embedding_dropout=0.1 model.weight_drop=0.1 model.noise=0.1 scheduler=cosine
}
default() { resume default callbacks.samples=false; }  # sizes and all as users get them

# Four jobs, each in a process of its own.
sweep() {
    # shellcheck disable=SC2086
    call sweep -m lyricgen.train -m $small trainer.accelerator=$accelerator cell=gru,lstm \
        seed=1,2 hydra/launcher=processes "hydra.sweep.dir=$work/sweep/whole"
    judge sweep sweep "$work/sweep/whole"
}

speed() { judge speed speed "$work" --accelerator "$accelerator"; }

# Parts run side by side, N at a time; the speed is measured alone.
for part in $parts; do
    [ "$part" != speed ] || continue
    while [ "$(jobs -rp | wc -l)" -ge "$at_once" ]; do wait -n; done
    echo "$part ($SECONDS s)"
    "$part" &
done
wait
[[ " $parts " != *" speed "* ]] || speed
