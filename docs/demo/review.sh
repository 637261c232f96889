#!/usr/bin/env bash
# The handler of the demo: reviews one surface. It reads its payload, says how far it is, keeps a report, a summary
# and a table of findings, and finishes. It would run the same under Breyta's own worker.
set -euo pipefail

surface="$(python3 -c 'import json, os; print(json.load(open(os.environ["BREYTA_JOB_PAYLOAD_FILE"]))["surface"])')"
breyta jobs worker progress --status running --message "Reviewing $surface"

report="$BREYTA_JOB_DIR/review-report.md"
printf '# Review of %s\n\nTwo findings, one of them serious.\n' "$surface" >"$report"
report_uri="$(breyta jobs worker attach-file --file "$report" --label review-report --kind report --print-uri)"

breyta jobs worker attach-kv --label review-summary --field finding-count=2 --field severity=high >/dev/null

cat >"$BREYTA_JOB_DIR/findings.json" <<'ROWS'
[{"finding_id": "F-1", "severity": "high", "title": "Token is logged"},
 {"finding_id": "F-2", "severity": "low", "title": "Typo in an error"}]
ROWS
breyta jobs worker attach-table --label findings --table security-findings \
  --rows-file "$BREYTA_JOB_DIR/findings.json" --write-mode upsert --key-field finding_id --index-field severity >/dev/null

echo "reviewed $surface"
breyta jobs worker finish --summary "Reviewed $surface" \
  --output "surface=$surface" --output finding-count=2 --output "report-resource-uri=$report_uri" >/dev/null
