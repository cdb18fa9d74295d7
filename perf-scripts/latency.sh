#!/usr/bin/env bash
# How long an acceptance takes at half of what is possible, beside how long a flush takes meanwhile.
# See README.md in this directory for what is measured. Exit status 1 when the goal is missed.
set -euo pipefail

usage() {
  cat <<'EOT'
usage: latency.sh [options]
  --quick            one short run: half a minute; proves the script
  --rate N           messages a second (default: half of what is delivered at full speed to clients
                     that wait for each reply, measured first)
  --runs N           runs (default 5); the median counts
  --seconds N        the time that each run sends for (default 15)
  --connections N    connections at once (default 20)
  --work DIR         where queue and logs are put (default: a new directory in /var/tmp)
  --no-build         use the Release build that is there
EOT
}

here=$(cd "$(dirname "$0")" && pwd)
root=$(dirname "$here")
rate='' runs=5 seconds=15 connections=20 warm=100000 full=5 work='' build=yes
hpload=$root/bench/HighPerfMta.LoadGen/bin/Release/net10.0/hpload
hpmta=$root/src/HighPerfMta.Server/bin/Release/net10.0/hpmta
while [ $# -gt 0 ]; do
  case $1 in
    --quick) runs=1 seconds=5 warm=20000 full=2; shift ;;
    --rate) rate=$2; shift 2 ;;
    --runs) runs=$2; shift 2 ;;
    --seconds) seconds=$2; shift 2 ;;
    --connections) connections=$2; shift 2 ;;
    --work) work=$2; shift 2 ;;
    --no-build) build=no; shift ;;
    -h | --help) usage; exit 0 ;;
    *) usage >&2; exit 2 ;;
  esac
done

# shellcheck source=lib.sh
. "$here/lib.sh"
[ -n "$work" ] || work=$(mktemp -d /var/tmp/hpmta-latency.XXXXXX)
mkdir -p "$work"
sink_port=$(free_port) smtp_port=$(free_port) http_port=$(free_port)
server=''

cleanup() {
  trap - EXIT
  trap '' INT TERM
  end_process "$server"
  kill_children
  case $work in /var/tmp/hpmta-latency.*) rm -rf "$work" ;; *) rm -rf "$work/data" ;; esac
}
trap cleanup EXIT
trap 'exit 130' INT TERM

fail() { echo "latency.sh: $*" >&2; exit 1; }
say() { printf '%(%H:%M:%S)T %s\n' -1 "$*" >&2; }

prepare() {
  [ $build = yes ] || return 0
  build_release "$root" "$work/build.log" || fail "the build failed"
}

start() {
  cat >"$work/hpmta.toml" <<EOT
hostname = "latency.invalid"
data_dir = "$work/data"

[[listener]]
address = "127.0.0.1:$smtp_port"
profile = "relay"

[queue]
sync = true
disk_low_water = "256MiB"

[admin]
http = "127.0.0.1:$http_port"

[[route]]
domains = ["*"]
to = "smtp://127.0.0.1:$sink_port"
EOT
  "$hpmta" serve --config "$work/hpmta.toml" >"$work/log" 2>&1 &
  server=$!
  await_port "$smtp_port" || { tail -20 "$work/log" >&2; fail "the server does not start"; }
}

load() {
  timeout 300 "$hpload" relay --mta "127.0.0.1:$smtp_port" --sink "127.0.0.1:$sink_port" --connections "$connections" --size 1KiB --json "$work/relay.json" "$@" >"$work/relay.log" 2>&1 \
    || { cat "$work/relay.log" >&2; fail "mail was lost or refused"; }
}

# flushed FILE: the buckets of the server's histogram of flushes.
flushed() {
  fetch "http://127.0.0.1:$http_port/metrics" | sed -n 's/^hpmta_queue_flush_seconds_bucket{le="\([^"]*\)"} /\1 /p' >"$1"
  [ -s "$1" ] || fail "the server tells nothing of its flushes"
}

# percentile SHARE BEFORE AFTER: of the flushes between two looks, in milliseconds; within a bucket as if they were spread evenly.
percentile() {
  awk -v share="$1" '
    NR == FNR { before[$1] = $2; next }
    { bound[++n] = $1; count[n] = $2 - before[$1] }
    END {
      for (i = 1; i <= n && count[i] < share * count[n]; i++) { low = bound[i]; below = count[i] }
      high = bound[i] == "+Inf" ? low : bound[i]
      print 1000 * (low + (high - low) * (share * count[n] - below) / (count[i] > below ? count[i] - below : 1))
    }' "$2" "$3"
}

# accepted KEY: of the latencies in the harness's answer, in milliseconds.
accepted() { awk -v key="\"$1\":" '/"latency_ms"/ { inside = 1 } inside && $1 == key { gsub(",", "", $2); print $2; exit }' "$work/relay.json"; }

prepare
start
say "warming up"
load --count "$warm"
if [ -z "$rate" ]; then
  load --pipeline 0 --duration "${full}s"
  rate=$(awk -v most="$(json_number delivered_per_second "$work/relay.json")" 'BEGIN { printf "%d", most / 2 }')
fi
echo "$rate messages/s of 1 KiB over $connections connections; times in ms"
printf '%-4s %9s %9s %9s   %9s %9s %9s   %s\n' run 'acc. p50' p99 p99.9 'flush p50' p99 p99.9 'p99 : p99'
for run in $(seq "$runs"); do
  flushed "$work/before"
  load --rate "$rate" --warm-up 3s --duration "${seconds}s"
  flushed "$work/after"
  printf '%s %s %s %s %s %s %s\n' "$run" "$(accepted p50_ms)" "$(accepted p99_ms)" "$(accepted p999_ms)" \
    "$(percentile 0.5 "$work/before" "$work/after")" "$(percentile 0.99 "$work/before" "$work/after")" "$(percentile 0.999 "$work/before" "$work/after")" \
    | awk '{ printf "%-4s %9.2f %9.2f %9.2f   %9.2f %9.2f %9.2f   %.1f\n", $1, $2, $3, $4, $5, $6, $7, $3 / $6 }' | tee -a "$work/ratios"
done
status=0
awk '{ print $NF }' "$work/ratios" | median | awk '{ printf "99 %% of acceptances take %.1f times as long as 99 %% of flushes (median; goal: 4)\n", $1; exit $1 > 4 }' || status=1
echo "machine: $(machine | sed 's/, times by.*//')"
exit $status
