#!/usr/bin/env bash
# One huge message through hpmta: how far does it raise the process? Arguments go to `hpload memory` (--size 1GiB, --limit-mib 32).
# Exit status 0 only when the message arrived and the growth stayed within the limit.
set -euo pipefail
root=$(dirname "$(cd "$(dirname "$0")" && pwd)")
if [ "${1:-}" = --no-build ]; then
  shift
else
  (cd "$root" && dotnet build -c Release -v q src/HighPerfMta.Server && dotnet build -c Release -v q bench/HighPerfMta.LoadGen) >/dev/null
fi
exec timeout "${LIMIT:-900}" "$root/bench/HighPerfMta.LoadGen/bin/Release/net10.0/hpload" memory \
  --hpmta "$root/src/HighPerfMta.Server/bin/Release/net10.0/hpmta" "$@"
