#!/usr/bin/env bash
# One job from submit to result, in a fresh directory. Needs breyta on PATH; 'make demo' sees to that.
set -euo pipefail

here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
unset BREYTA_SPOOL BREYTA_API_URL BREYTA_WORKSPACE BREYTA_API_KEY BREYTA_TOKEN
place="$(mktemp -d "${TMPDIR:-/tmp}/breyta-demo.XXXXXX")"
spool="$place/spool"
worker=
trap '[ -z "$worker" ] || kill "$worker" 2>/dev/null || true' EXIT

step() { printf '\n\033[1m%s\033[0m\n' "$*" | if [ -t 1 ]; then cat; else sed 's/\x1b\[[0-9;]*m//g'; fi; }
field() { python3 -c 'import json, sys; job = json.load(sys.stdin)["data"]["job"]; print(json.dumps(job[sys.argv[1]], indent=2) if sys.argv[2:] else job[sys.argv[1]])' "$@"; }

step "1. Make a spool: a directory is the whole control plane"
echo "\$ breyta spool init $spool --workspace ws-acme"
breyta spool init "$spool" --workspace ws-acme >/dev/null
cd "$spool"

step "2. Start a worker for agent-review, with a bash handler"
echo "\$ breyta jobs worker run --type agent-review --handler $here/review.sh &"
breyta jobs worker run --type agent-review --handler "$here/review.sh" >"$place/worker.json" 2>"$place/worker.log" &
worker=$!

step "3. Submit a job"
echo "\$ breyta jobs create --type agent-review --payload '{\"surface\": \"flows-api\"}'"
job_id="$(breyta jobs create --type agent-review --payload '{"surface": "flows-api"}' | field jobId)"
echo "$job_id"

step "4. Await it"
echo "\$ breyta jobs await $job_id --timeout 60s"
breyta jobs await "$job_id" --timeout 60s >"$place/job.json"
field status <"$place/job.json"

step "5. Its outputs, for the flow to branch on"
field outputs json <"$place/job.json"

step "6. Its report and its table, plain files beside the job"
job_dir="$(find jobs -type d -name "$job_id")"
echo "\$ cat $job_dir/artifacts/review-report.md"
cat "$job_dir/artifacts/review-report.md"
echo "\$ cat $job_dir/artifacts/tables/security-findings.jsonl"
cat "$job_dir/artifacts/tables/security-findings.jsonl"

step "7. The job, whole"
cat "$place/job.json" | python3 -c 'import json, sys; print(json.dumps(json.load(sys.stdin)["data"]["job"], indent=2))'

step "8. Stop the worker (SIGTERM: it finishes what runs)"
kill "$worker"
wait "$worker"
worker=
echo "\$ cat worker.log"
cat "$place/worker.log"

step "9. The tree. The name of the one file status.* is the status"
find . -mindepth 1 | python3 -c '
import os, sys
for path in sorted(sys.stdin.read().splitlines(), key=lambda path: path.split("/")):
    link = " -> " + os.readlink(path) if os.path.islink(path) else "/" if os.path.isdir(path) else ""
    print("  " * (path.count("/") - 1) + os.path.basename(path) + link)'
echo
echo "It is yours to look at: $spool"
