#!/usr/bin/env bash
# The demo after the install, without a network, from an empty request cache: seconds by step.
#     bash benchmarks/demo.sh
set -euo pipefail
cd "$(dirname "$0")/.."
make setup >/dev/null
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
export PREFDATA_CACHE="$scratch/cache" DEMO="$scratch/quickstart"
run() { if unshare -n true 2>/dev/null; then unshare -n "$@"; else "$@"; fi; }
start=$(date +%s)
run make demo DEMO="$DEMO" 2>&1 | tee "$scratch/log" | grep -E "groups, [0-9.]+ s\)|^held out|train.json" || true
echo "in all: $(($(date +%s) - start)) s on $(nproc) cores (load $(cut -d' ' -f1 /proc/loadavg) at the end)"
.venv/bin/python - "$DEMO/report.json" <<'P'
import json, sys
for row in json.load(open(sys.argv[1]))["annotators"]:
    print(f"{row['name']}: {row['reading']['sentence']}")
P
