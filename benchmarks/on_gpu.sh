#!/usr/bin/env bash
# Measure the node on a machine with a GPU, in less than five minutes, and write one JSON file. Nothing is installed.
# Options are those of gpu_report.py, for example:
#
#   benchmarks/on_gpu.sh --json on_gpu.json
#   PYTHON=/usr/bin/python3 benchmarks/on_gpu.sh --device cuda
set -euo pipefail
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"

python="${PYTHON:-}"
if [[ -z "$python" && -x "$root/.venv/bin/python" ]]; then
    python="$root/.venv/bin/python"
fi
python="${python:-python3}"
if ! command -v "$python" >/dev/null; then
    printf 'expected a Python interpreter, got %s; name one: PYTHON=/path/to/python %s\n' "$python" "$0" >&2
    exit 2
fi
exec "$python" "$root/benchmarks/gpu_report.py" "$@"
