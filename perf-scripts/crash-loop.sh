#!/usr/bin/env bash
# kill -9 under load, again and again: every message that got its 250 must arrive byte-exact. Arguments go to `hpload crash`
# (--rounds 50, --seed, --connections, --mix, --directory, --json). Exit status 0 only when nothing was lost.
set -euo pipefail
root=$(dirname "$(cd "$(dirname "$0")" && pwd)")
if [ "${1:-}" = --no-build ]; then
  shift
else
  (cd "$root" && dotnet build -c Release -v q src/HighPerfMta.Server && dotnet build -c Release -v q bench/HighPerfMta.LoadGen) >/dev/null
fi
exec timeout "${LIMIT:-1800}" "$root/bench/HighPerfMta.LoadGen/bin/Release/net10.0/hpload" crash \
  --hpmta "$root/src/HighPerfMta.Server/bin/Release/net10.0/hpmta" "$@"
