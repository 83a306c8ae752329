#!/usr/bin/env bash
# Lints the relay's OpenAPI document; fails when it is not valid OpenAPI 3.1.
# The linter lives in a virtual environment under target/, made on first use.
#
#   scripts/check-openapi.sh [DOCUMENT]
set -euo pipefail

top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
document=${1:-$top/crates/relay/openapi.json}
venv=${CARGO_TARGET_DIR:-$top/target}/openapi-venv
linter=openapi-spec-validator==0.7.2

if [ ! -e "$venv/ready-$linter" ]; then
  rm -rf "$venv"
  python3 -m venv "$venv" || {
    echo "python3 -m venv does not work here; on Debian: apt-get install python3-venv" >&2
    exit 1
  }
  "$venv/bin/pip" --quiet --disable-pip-version-check install "$linter"
  touch "$venv/ready-$linter"
fi

"$venv/bin/openapi-spec-validator" --schema 3.1 "$document"

# The validator reads no examples; they have to be what their schemas say.
"$venv/bin/python" - "$document" <<'PYTHON'
import json
import sys

from jsonschema import Draft202012Validator

document = json.load(open(sys.argv[1], encoding="utf-8"))
wrong = []


def visit(node, path):
    if isinstance(node, list):
        for place, child in enumerate(node):
            visit(child, f"{path}/{place}")
    if not isinstance(node, dict):
        return
    schema = node.get("schema")
    if isinstance(schema, dict):
        examples = [entry["value"] for entry in node.get("examples", {}).values()]
        if "example" in node:
            examples.append(node["example"])
        whole = {**schema, "components": document["components"]}
        for example in examples:
            for error in Draft202012Validator(whole).iter_errors(example):
                wrong.append(f"{path}: {error.json_path}: {error.message}")
    for key, child in node.items():
        visit(child, f"{path}/{key}")


visit(document["paths"], "")
visit(document["components"], "components")
print("\n".join(wrong) or "examples: OK")
sys.exit(bool(wrong))
PYTHON
