#!/usr/bin/env bash
# Measure two commits in turns and say what became wrong or slower; `make compare` calls this.
#
#     reports/pull_request.sh BASE HEAD [FOLDER]
#
# asv builds either commit with its own lock and measures round by round: BASE HEAD, HEAD BASE,
# BASE HEAD, ... What the machine does slowly, it does to both. The suites are those of the working
# tree, for both. FOLDER (default: build/pull-request) gets the comparison as a comment, as JSON and
# as JUnit XML. The exit status is that of `convbench compare`: 0 fine, 1 slower, 2 wrong, 3 nothing
# measured, 4 bad input or could not set up, 70 a defect of convbench.
#
# In the environment:
#   BENCH   which benchmarks, as in `asv run --bench`; default: pipelines and their checks, smoke
#   ROUNDS  processes for each of them; default: what the benchmark says, 5 for times
#   DELTA   slower by at most so many percent is fine; default: that of `convbench compare`
#   LAUNCH  asv's --launch-method; default: forkserver, or spawn where there is a GPU
#   BIN     where asv and convbench are; default: .venv/bin
set -euo pipefail

if [[ $# -lt 2 || $# -gt 3 ]]; then
    echo "usage: $0 BASE HEAD [FOLDER]" >&2
    exit 4
fi
cd "$(dirname "${BASH_SOURCE[0]}")/.."
bin=${BIN:-.venv/bin}
bench=${BENCH:-'bench_(pipeline|accuracy)\.Smoke\.'}
folder=${3:-build/pull-request}

hash_of() {
    git rev-parse --verify --quiet "$1^{commit}" || {
        echo "compare: git knows no commit $1; fetch it, or correct the name." >&2
        exit 4
    }
}
base=$(hash_of "$1")
head=$(hash_of "$2")
if [[ $base == "$head" ]]; then
    echo "compare: $1 and $2 are the same commit, ${base:0:8}." >&2
    exit 4
fi
if [[ -n $(git status --porcelain -- benchmarks) ]]; then
    echo "compare: the suites, which both commits are measured with, have uncommitted changes." >&2
fi

# CUDA does not survive a fork. Elsewhere asv forks from a process that has imported TensorFlow.
if [[ -z ${LAUNCH:-} ]]; then
    LAUNCH=forkserver
    [[ $("$bin/python" requirements/install.py --gpus) == 0 ]] || LAUNCH=spawn
fi
# Answering asv's questions about this machine once more would overwrite the answers.
known='from asv.machine import *; MachineCollection.load(Machine.get_unique_machine_name())'
"$bin/python" -c "$known" >/dev/null 2>&1 || "$bin/asv" machine --yes

options=(--interleave-rounds --launch-method "$LAUNCH" --bench "$bench")
[[ -z ${ROUNDS:-} ]] || options+=(--attribute "rounds=$ROUNDS")
measured=0
printf '%s\n' "$base" "$head" | "$bin/asv" run "${options[@]}" HASHFILE:- || measured=$?
# 2: some benchmarks failed, which the comparison tells.
if [[ $measured != 0 && $measured != 2 ]]; then
    echo "compare: asv run could not measure (exit status $measured)." >&2
    exit 4
fi

mkdir -p "$folder"
# Either commit may have been measured in .venv too: the environments meant here are asv's.
compare=("$bin/convbench" compare "$base:virtualenv" "$head:virtualenv" --bench "$bench")
[[ -z ${DELTA:-} ]] || compare+=(--delta "$DELTA")
verdict=0
"${compare[@]}" || verdict=$?
for format in markdown:comment.md json:comparison.json junit:comparison.xml; do
    "${compare[@]}" --format "${format%%:*}" >"$folder/${format#*:}" 2>/dev/null ||
        [[ $? == "$verdict" ]] || exit 4
done
echo "compare: written to $folder; exit status $verdict" >&2
exit "$verdict"
