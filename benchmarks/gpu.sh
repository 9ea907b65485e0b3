#!/usr/bin/env bash
# Everything there is to measure on a GPU, in at most ten minutes, on a machine that has little more than torch.
#
#   benchmarks/gpu.sh [--wheels DIR] [--out DIR] [--budget SECONDS] [--only "STEP ..."]
#   benchmarks/gpu.sh --dry                      tiny sizes on the CPU: does every step still work?
#   benchmarks/gpu.sh --collect-wheels DIR [--python 3.12] [--without "NAME ..."]
#
# No internet and no git is needed; the current folder does not matter.  What Python lacks is installed from the
# wheels of DIR (default: $WHEELS) into a temporary folder, never into the Python that runs.  Each step has its own
# time limit and leaves its result in the output folder (default: $OUT, else benchmarks/results/, or runs/gpu-dry/ with
# --dry) as it ends, so that an early stop loses the rest only.  steps.tsv says how each ended, log.txt holds what was
# printed.  The exit status is 1 unless every step was done.  Afterwards, with the JSON files in benchmarks/results/,
# `benchmarks/run_all --page-only` puts the tables into docs/benchmarks.md.
#
# --collect-wheels fetches the wheels, for a machine of its own kind of processor and the Python named.  --without
# leaves out what the other machine is known to have.
set -uo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
python=${PYTHON:-python3}

# Beside torch and numpy; measured: all that the steps below import.
packages="scipy scikit-learn joblib cloudpickle narwhals threadpoolctl h5py gemmi fair-esm safetensors tomli-w
  lightning-fabric lightning-utilities packaging
  pytest pluggy iniconfig pygments pytest-timeout pytest-xdist execnet hypothesis sortedcontainers setuptools"

fail() { echo "gpu.sh: $*" >&2; exit 2; }

dry=0 wheels=${WHEELS:-} out=${OUT:-} budget="" only="" collect="" version=3.12 without=""
while [ $# -gt 0 ]; do
  case $1 in
    --dry) dry=1 ;;
    --wheels | --out | --budget | --only | --collect-wheels | --python | --without)
      [ $# -ge 2 ] || fail "$1 wants a value"
      case $1 in
        --wheels) wheels=$2 ;; --out) out=$2 ;; --budget) budget=$2 ;; --only) only=$2 ;;
        --collect-wheels) collect=$2 ;; --python) version=$2 ;; --without) without=$2 ;;
      esac
      shift ;;
    -h | --help) sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p;}' "$0"; exit 0 ;;
    *) fail "unknown argument $1; see --help" ;;
  esac
  shift
done

if [ -n "$collect" ]; then
  mkdir -p "$collect"
  wanted=$(for name in $packages; do case " $without " in *" $name "*) ;; *) echo "$name" ;; esac; done)
  platforms=$(for n in 2_34 2_28 2_27 2_17 2_12 2_5; do echo "--platform manylinux_${n}_x86_64"; done)
  # shellcheck disable=SC2086
  "$python" -m pip download --quiet --no-deps --only-binary=:all: --implementation cp --python-version "$version" \
    $platforms --platform manylinux2014_x86_64 --platform manylinux1_x86_64 \
    -c "$root/constraints.txt" -d "$collect" $wanted || fail "not all wheels could be had"
  du -sh "$collect"
  exit 0
fi

started=$SECONDS
if [ -z "$budget" ]; then [ $dry = 1 ] && budget=3600 || budget=570; fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
if [ -z "$out" ]; then [ $dry = 1 ] && out=$root/runs/gpu-dry || out=$root/benchmarks/results; fi
mkdir -p "$out" && out=$(cd "$out" && pwd)
[ -z "$wheels" ] || wheels=$(cd "$wheels" && pwd) || fail "no folder of wheels at $wheels"
cd "$root" || exit 2
export PYTHONPATH=$work/site PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 PROTCLIP_CACHE=$work/cache
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
device=cuda
[ $dry = 0 ] || device=cpu
"$python" -c "import torch" || fail "this Python has no torch: $python (name another in PYTHON)"
if [ $device = cuda ]; then
  "$python" -c "import sys, torch; sys.exit(not torch.cuda.is_available())" ||
    fail "torch sees no CUDA device here; --dry tries the steps on the CPU"
fi
: >"$out/log.txt"
printf 'step\tresult\tseconds\tlimit\n' >"$out/steps.tsv"

# --- the steps

install_missing() {
  # Wheels of packages that Python lacks, then protclip itself from a copy of the sources.
  mkdir -p "$work/site" "$work/source"
  local missing=() name
  for name in $packages; do
    "$python" -c "import importlib.metadata as m; m.version('$name')" 2>"$work/lacking" || missing+=("$name")
  done
  # An old setuptools cannot build protclip.
  "$python" -c "import importlib.metadata as m, sys; sys.exit(int(m.version('setuptools').split('.')[0]) < 77)" \
    2>"$work/lacking" || missing+=(setuptools)
  if [ ${#missing[@]} -gt 0 ]; then
    echo "missing: ${missing[*]}"
    [ -n "$wheels" ] || { echo "no folder of wheels was named; --collect-wheels makes one"; return 1; }
    "$python" -m pip install --quiet --no-index --no-deps --find-links "$wheels" --target "$work/site" \
      $(printf '%s\n' "${missing[@]}" | sort -u) || return 1
  fi
  cp -r pyproject.toml README.md LICENSE protclip structure data tasks "$work/source"
  rm -rf "$work"/source/*.egg-info
  "$python" -m pip install --quiet --no-index --no-deps --no-build-isolation --target "$work/site" "$work/source"
}

tests() {
  # Files with GPU tests alone: the others import packages that are not needed here.
  # The current folder holds only a part of the package, so it must not be looked in.
  "$python" -c "import sys; del sys.path[0]; import pytest; sys.exit(pytest.main(sys.argv[1:]))" \
    -q -m gpu -n 0 -p no:cacheprovider $(grep -rl --include='*.py' 'mark\.gpu' tests | sort)
}

benchmark() {
  local quick=()
  [ $dry = 0 ] || quick=(--quick)
  "$python" benchmarks/run_all --device "$device" --into "$out" --only "$1" "${quick[@]}"
}

# --- each with its limit in seconds

export packages wheels work out dry device python
export -f install_missing tests benchmark
incomplete=0
step() {
  local name=$1 limit=$2 began=$SECONDS left code result
  shift 2
  [ $dry = 0 ] || limit=$((4 * limit)) # processors are slower, and may be shared
  case " ${only:-$name} install " in *" $name "*) ;; *) return ;; esac
  left=$((budget - (SECONDS - started)))
  [ "$limit" -le "$left" ] || limit=$left
  if [ "$limit" -lt 5 ]; then
    result="out of time" incomplete=1
  else
    echo "== $name, at most $limit s" | tee -a "$out/log.txt"
    timeout --kill-after 5 "$limit" bash -c '"$@"' step "$@" 2>&1 | tee -a "$out/log.txt"
    code=${PIPESTATUS[0]}
    case $code in
      0) result=done ;;
      124 | 137) result="out of time" incomplete=1 ;;
      *) result=failed incomplete=1 ;;
    esac
  fi
  printf '%s\t%s\t%s\t%s\n' "$name" "$result" $((SECONDS - began)) "$limit" >>"$out/steps.tsv"
}

step install 90 install_missing
step tests 120 tests
step cdconv 75 benchmark cdconv
step cdconv-bf16 75 benchmark cdconv-bf16
step esm2 150 benchmark esm2
step losses 60 benchmark losses
step pretrain 75 benchmark pretrain
step embedding 120 benchmark embedding

echo
echo "results in $out"
while IFS=$'\t' read -r name result seconds limit; do
  printf '%-12s %-12s %8s %8s\n' "$name" "$result" "$seconds" "$limit"
done <"$out/steps.tsv"
exit $incomplete
