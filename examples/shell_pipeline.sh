#!/usr/bin/env bash
# Claude Code transcripts into convmem: turned into turns, recorded through one pipe, read, compacted.
#
#   examples/shell_pipeline.sh                                    the samples of this repository
#   examples/shell_pipeline.sh ~/.claude/projects/*/*.jsonl       your own
#
# Works in the archive CONVMEM_ARCHIVE, or in a new temporary one, and there in the namespace
# "example" only: the compaction at the end touches nothing else. Needs convmem on the PATH, and
# jq or python3. TO_TURNS=jq or TO_TURNS=python chooses between the two.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
if [ $# -eq 0 ]; then
  set -- "$here"/../tests/data/transcripts/claude_code/*.jsonl
fi
if [ -z "${CONVMEM_ARCHIVE:-}" ]; then
  CONVMEM_ARCHIVE=$(mktemp -d)
fi
export CONVMEM_ARCHIVE CONVMEM_NAMESPACE=example

if [ -z "${TO_TURNS:-}" ]; then
  if command -v jq >/dev/null; then TO_TURNS=jq; else TO_TURNS=python; fi
fi

to_turns() {
  for transcript in "$@"; do
    if [ "$TO_TURNS" = jq ]; then
      jq -Rc -f "$here/claude_code_to_turns.jq" "$transcript"
    else
      python3 "$here/claude_code_to_turns.py" "$transcript"
    fi
  done
}

# One stream for all conversations: each turn names its own. Exit code 7 means that some lines were
# refused, and named; the others are recorded.
record() {
  to_turns "$@" | convmem record - --jsonl || [ $? -eq 7 ]
}

# The files are plain text: one line, one turn.
stored() {
  cat "$CONVMEM_ARCHIVE/$CONVMEM_NAMESPACE"/*.jsonl | wc -l | tr -d ' '
}

echo "== record $# transcripts (by $TO_TURNS)"
record "$@"
first=$(stored)
echo "$first turns in $(convmem list | wc -l | tr -d ' ') conversations"

echo "== record them again: every turn has an id, so nothing is stored twice"
record "$@"
echo "$(stored) turns"
[ "$(stored)" = "$first" ]

newest=$(convmem list | head -n 1)
echo "== tail $newest: the last 3 turns"
convmem tail "$newest" -n 3

echo "== compact, dry: what would go"
convmem compact --all --keep-last 10 --dry-run

echo "== compact"
convmem compact --all --keep-last 10
after=$(stored)

echo "== record them once more: what was dropped is remembered, and does not come back"
record "$@"
[ "$(stored)" = "$after" ]

echo "== done; look around with: convmem -A $CONVMEM_ARCHIVE -N example list"
