#!/usr/bin/env bash
# README.md and README_RU.md in step: the same headings by level, the same code blocks word for word, the
# same tables by size, the same links.
#
# usage: check-readmes.sh [DIRECTORY]
set -euo pipefail
cd "${1:-"$(dirname "$0")/.."}"
status=0

headings() { awk '/^```/ { code = !code } !code && /^#+ / { print $1 }' "$1"; }
blocks() { awk '/^```/ { code = !code; print; next } code' "$1"; }
tables() { awk -F'|' '/^\|/ { print NF }' "$1"; }
# Each links to the other one.
links() { grep -oE '\]\([^)]+\)' "$1" | grep -vE '\(README(_RU)?\.md\)' | sort -u; }

# same WHAT ENGLISH RUSSIAN
same() {
    local difference
    if ! difference=$(diff <(echo "$2") <(echo "$3")); then
        printf 'README.md and README_RU.md have different %s (<: English, >: Russian):\n%s\n' \
            "$1" "$difference"
        status=1
    fi
}

same headings "$(headings README.md)" "$(headings README_RU.md)"
same "code blocks" "$(blocks README.md)" "$(blocks README_RU.md)"
same tables "$(tables README.md)" "$(tables README_RU.md)"
same links "$(links README.md)" "$(links README_RU.md)"
[ $status = 0 ] && echo "READMEs: ok"
exit $status
