#!/usr/bin/env bash
# Who may name whom.
#
# Inside a crate: transport -> protocol -> domain -> store, each layer may name those to its right.
# Between crates: testkit is for tests, and proto does no I/O. What services may link is deny.toml's.
#
# usage: check-layers.sh [DIRECTORY WITH crates/]
set -euo pipefail
cd "${1:-"$(dirname "$0")/.."}"
status=0

# forbid LAYER 'names|it|must|not|use'
forbid() {
    local files=()
    mapfile -d '' files < <(
        find crates -path "*/src/$1/*" -name '*.rs' -print0 -o -path "*/src/$1.rs" -print0
    )
    [ "${#files[@]}" -gt 0 ] || return 0
    # Finds crate::store, super::store and use crate::{domain, store::x}; comments do not count.
    if ! LAYERS="$2" perl -0777 -ne '
        BEGIN { $layers = $ENV{LAYERS}; $found = 0 }
        s{//[^\n]*}{}g;
        while (m{\b(?:crate|super)::(?:(?<name>$layers)\b|(?<braces>\{(?:[^{}]|(?&braces))*\}))}g) {
            my ($name, $braces, $start) = ($+{name}, $+{braces}, $-[0]);
            if (defined $braces) {
                my $outer = substr($braces, 1, -1);
                1 while $outer =~ s/\{[^{}]*\}//g;
                ($name) = $outer =~ /(?:^|,)\s*($layers)\b/ or next;
            }
            my $line = 1 + (substr($_, 0, $start) =~ tr/\n//);
            print "$ARGV:$line: names the layer `$name`\n";
            $found = 1;
        }
        END { $? = $found }
    ' "${files[@]}"; then
        status=1
    fi
}

forbid transport 'store'
forbid protocol 'transport|store'
forbid domain 'transport|protocol'
forbid store 'transport|protocol|domain'

# A crate's ordinary dependencies, one per line.
dependencies() {
    awk '/^\[/ { inside = ($0 == "[dependencies]") } inside && /^[a-z0-9_-]+/ {
        sub(/[ .=].*/, ""); print }' "$1"
}

for manifest in crates/*/Cargo.toml; do
    if dependencies "$manifest" | grep -qx testkit; then
        echo "$manifest: testkit belongs under [dev-dependencies]"
        status=1
    fi
done
if [ -f crates/proto/Cargo.toml ]; then
    if dependencies crates/proto/Cargo.toml | grep -xE 'tokio|hyper|sqlx|service|pg|edge|tracing'; then
        echo "crates/proto/Cargo.toml: proto does no I/O"
        status=1
    fi
fi

[ "$status" = 0 ] && echo "layers: ok"
exit "$status"
