#!/usr/bin/env bash
# No source file over 600 lines: one that long has more than one purpose.
#
# usage: check-file-sizes.sh [REPOSITORY]
set -euo pipefail
cd "${1:-"$(dirname "$0")/.."}"
limit=600

long=$(git ls-files -z --cached --others --exclude-standard -- '*.rs' '*.sql' '*.sh' 'scripts/*' |
    while IFS= read -r -d '' file; do
        [ -f "$file" ] || continue
        lines=$(wc -l <"$file")
        [ "$lines" -le "$limit" ] || echo "$file: $lines lines, more than $limit"
    done)
if [ -n "$long" ]; then
    echo "$long"
    exit 1
fi
echo "file sizes: ok"
