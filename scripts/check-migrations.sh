#!/usr/bin/env bash
# Merged migrations are frozen: some database has applied them as they are.
#
# Compares with what is merged: BASE when given (or MIGRATIONS_BASE), else the remote's main branch,
# else the local one. On that branch itself: with the state before its last merge.
#
# usage: check-migrations.sh [BASE]
set -euo pipefail
cd "$(git rev-parse --show-toplevel)"
directory=crates/pg/migrations
status=0

# Names: <14 digits>_<schema>_<what>.{up,down}.sql, in pairs, every version once.
for file in "$directory"/*; do
    name=${file##*/}
    if ! [[ $name =~ ^[0-9]{14}_[a-z]+_[a-z0-9_]+\.(up|down)\.sql$ ]]; then
        echo "$file: not <14 digits>_<schema>_<what>.{up,down}.sql"
        status=1
    fi
    case $name in
        *.up.sql) pair=${file%.up.sql}.down.sql ;;
        *) pair=${file%.down.sql}.up.sql ;;
    esac
    [ -f "$pair" ] || { echo "$file: ${pair##*/} is missing"; status=1; }
done
twice=$(for file in "$directory"/*.up.sql; do basename "$file" | cut -d_ -f1; done | sort | uniq -d)
[ -z "$twice" ] || { echo "versions used twice: $twice"; status=1; }

base=${1:-${MIGRATIONS_BASE:-}}
if [ -z "$base" ]; then
    for branch in origin/HEAD origin/main main; do
        if git rev-parse -q --verify "$branch^{commit}" >/dev/null; then
            base=$branch
            break
        fi
    done
fi
if [ -n "$base" ]; then
    merged=$(git merge-base HEAD "$base")
    # On the branch itself, a merge is compared with what was there before it.
    if [ "$merged" = "$(git rev-parse HEAD)" ] && git rev-parse -q --verify HEAD^2 >/dev/null; then
        merged=$(git rev-parse HEAD^1)
    fi
    changed=$(git diff --name-status --no-renames --diff-filter=MDT "$merged" -- "$directory")
    if [ -n "$changed" ]; then
        echo "merged migrations changed since $(git rev-parse --short "$merged");" \
            "write a new one instead:"
        echo "$changed"
        status=1
    fi
fi

[ "$status" = 0 ] && echo "migrations: ok"
exit "$status"
