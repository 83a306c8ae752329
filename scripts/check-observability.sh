#!/usr/bin/env bash
# Checks deploy/observability: rules by promtool and its unit tests, generated files up to date, a page in
# runbooks/ and a unit test for each alert and none besides. Whether the metrics exist is the business of
# tests/deploy, which asks running services.
set -euo pipefail
cd "$(dirname "$0")/../deploy/observability"
status=0

promtool check rules prometheus/rules.yml
promtool test rules prometheus/rules_test.yml
python3 generate.py --check || status=1

alerts=$(sed -n 's/^ *- alert: //p' prometheus/rules.yml | sort)
twice=$(uniq -d <<<"$alerts")
[ -z "$twice" ] || { echo "the same name twice: $twice" && status=1; }

# same WHAT LIST: LIST has every alert and nothing else.
same() {
    local difference
    if ! difference=$(diff <(echo "$alerts") <(sort -u <<<"$2")); then
        printf '%s (<: missing, >: no such alert)\n%s\n' "$1" "$(grep '^[<>]' <<<"$difference")"
        status=1
    fi
}
same "pages in runbooks/" "$(find runbooks -name '*.md' -printf '%f\n' | sed 's/\.md$//')"
# A test that expects the alert to fire, not only one that expects silence.
same "tests that see the alert fire" \
    "$(awk '/alertname: [A-Za-z]+$/ { name = $2 } /exp_alerts:$/ { print name }' prometheus/rules_test.yml)"
for page in runbooks/*.md; do
    name=$(basename "$page" .md)
    for heading in "# $name" "## Look" "## Mend"; do
        grep -qx "$heading" "$page" || { echo "$page: no heading \"$heading\"" && status=1; }
    done
done
[ $status = 0 ] && echo "observability: ok"
exit $status
