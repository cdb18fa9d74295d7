#!/usr/bin/env bash
# Fuzzes the targets of tests/HighPerfMta.Fuzz, one after the other, guided by coverage of our own code.
#
#   fuzz.sh --seconds N [--targets A,B] [--findings DIR] [--keep DIR] [--seed N] [--no-build]
#
# N seconds are shared by the targets. An input that breaks one, or on which it hangs, is written to DIR (./fuzz-findings), made as short as it can be.
# --keep: inputs that reached what the corpus does not go to DIR/TARGET, where the next run begins. Exit: 0 nothing found, 1 findings, 2 bad usage.
set -euo pipefail
from=$PWD
cd "$(dirname "$0")/.."
build=1 arguments=(--findings "$from/fuzz-findings")
while [ $# -gt 0 ]; do
  case $1 in
    --no-build) build=; shift ;;
    --findings|--keep) arguments+=("$1" "$(cd "$from" && realpath -m "${2:?"$1 needs a directory"}")"); shift 2 ;;
    --seconds|--targets|--seed) arguments+=("$1" "${2:?"$1 needs a value"}"); shift 2 ;;
    *) sed -n '2,8s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
  esac
done
[ -z "$build" ] || dotnet build -c Release -v quiet --nologo tests/HighPerfMta.Fuzz
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
built=tests/HighPerfMta.Fuzz/bin/Release/net10.0
cp -r "$built" "$work/run"
dotnet "$built/HighPerfMta.Fuzz.dll" instrument "$work/run/HighPerfMta.Protocol.dll" "$work/run/HighPerfMta.Queue.dll" "$work/run/HighPerfMta.Engine.dll"
dotnet "$work/run/HighPerfMta.Fuzz.dll" run "${arguments[@]}"
