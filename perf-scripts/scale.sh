#!/usr/bin/env bash
# What a message costs hpmta as sessions, size, recipients, domains and sites grow: processor time, rate, memory; tables, charts and JSON.
# See README.md in this directory for what each curve holds and varies.
set -euo pipefail

usage() {
  cat <<'EOT'
usage: scale.sh [options]
  --quick            fewer places, one short run of each: three minutes; results go to out/
  --curves LIST      sessions,size,recipients,domains,sites (default all)
  --runs N           runs of each place, medians are kept (default 3)
  --seconds N        the time that each run sends for (default 5)
  --results DIR      where tables, charts and JSON are written (default: results/ beside this script)
  --work DIR         where queues and logs are put (default: a new directory in /var/tmp)
  --hpmta FILE       the server to measure (default: the Release build of this tree)
  --no-build         use the Release build that is there
EOT
}

here=$(cd "$(dirname "$0")" && pwd)
root=$(dirname "$here")
curves=sessions,size,recipients,domains,sites runs=3 seconds=5 warm=30000 quick=no work='' build=yes published=$here/results
hpload=$root/bench/HighPerfMta.LoadGen/bin/Release/net10.0/hpload
hpmta=$root/src/HighPerfMta.Server/bin/Release/net10.0/hpmta
while [ $# -gt 0 ]; do
  case $1 in
    --quick) quick=yes runs=1 seconds=2 warm=15000 published=$here/out; shift ;;
    --curves) curves=$2; shift 2 ;;
    --runs) runs=$2; shift 2 ;;
    --seconds) seconds=$2; shift 2 ;;
    --results) published=$2; shift 2 ;;
    --work) work=$2; shift 2 ;;
    --hpmta) hpmta=$(realpath "$2"); shift 2 ;;
    --no-build) build=no; shift ;;
    -h | --help) usage; exit 0 ;;
    *) usage >&2; exit 2 ;;
  esac
done

# shellcheck source=lib.sh
. "$here/lib.sh"
[ -n "$work" ] || work=$(mktemp -d /var/tmp/hpmta-scale.XXXXXX)
mkdir -p "$work" "$published"
sink_port=$(free_port) smtp_port=$(free_port) http_port=$(free_port)
server=''

cleanup() {
  trap - EXIT
  trap '' INT TERM
  end_process "$server"
  end_group load
  kill_children
  drop_groups
  case $work in /var/tmp/hpmta-scale.*) rm -rf "$work" ;; *) rm -rf "$work/hpmta/data" ;; esac
}
trap cleanup EXIT
trap 'exit 130' INT TERM

fail() { echo "scale.sh: $*" >&2; exit 1; }
say() { printf '%(%H:%M:%S)T %s\n' -1 "$*" >&2; }

prepare() {
  local free
  # A run of 50 MiB messages writes as fast as the disk takes it, and what was delivered is given back later.
  free=$(df -Pm "$work" | awk 'NR == 2 { print $4 }')
  [ "$free" -ge 12288 ] || fail "$work has $free MiB free, 12288 are needed"
  # Both ends of the load have a file open for each session, and so has the server.
  ulimit -n 20000 2>/dev/null || ulimit -n "$(ulimit -Hn)"
  files=$(ulimit -n)
  [ $build = yes ] || return 0
  build_release "$root" "$work/build.log" || fail "the build failed"
}

# start SITES: a server on an empty queue, with one next hop for all, or with so many sites: a second server that is never needed makes each domain's next
# hop one of its own, with its own limits and its own connections, though all of them end at the same sink.
start() {
  local dir=$work/hpmta
  end_process "$server"
  rm -rf "$dir"
  mkdir -p "$dir"
  {
    cat <<EOT
hostname = "scale.invalid"
data_dir = "$dir/data"

[[listener]]
address = "127.0.0.1:$smtp_port"
profile = "relay"

[limits]
message_size = "64MiB"
connections_per_ip = 10000

[queue]
sync = true

[admin]
http = "127.0.0.1:$http_port"

EOT
    awk -v sites="$1" -v sink="$sink_port" 'BEGIN {
      for (i = 0; i < sites; i++)
        printf "[[route]]\ndomains = [\"d%d.invalid\"]\nto = \"smtp://127.0.0.1:%d,smtp://127.%d.%d.%d:9\"\n\n", i, sink, 1 + int(i / 65536), int(i / 256) % 256, i % 256
    }'
    printf '[[route]]\ndomains = ["*"]\nto = "smtp://127.0.0.1:%d"\n' "$sink_port"
  } >"$dir/hpmta.toml"
  in_group hpmta "$hpmta" serve --config "$dir/hpmta.toml" >"$dir/log" 2>&1 &
  server=$!
  # A hundred thousand routes take it most of a minute to read.
  await_port "$smtp_port" quiet 240 || { tail -20 "$dir/log" >&2; fail "the server does not start"; }
  group_root hpmta "$server"
  relay --connections 20 --count "$warm" || fail "the server does not relay: $(cat "$work/relay.log")"
}

relay() {
  in_group load timeout 300 "$hpload" relay --mta "127.0.0.1:$smtp_port" --sink "127.0.0.1:$sink_port" --json "$work/relay.json" "$@" >"$work/relay.log" 2>&1
}

allocated() {
  fetch "http://127.0.0.1:$http_port/metrics" 2>/dev/null \
    | awk '$1 ~ /^hpmta_process_allocated_bytes_total/ { value = $2; found = 1 } END { print found ? value : "-" }'
}

# place CURVE X ARGUMENTS...: one run of the load for that long; a line in the curve's file.
place() {
  local curve=$1 x=$2 cpu0 load0 bytes0 bytes1 delivered
  shift 2
  bytes0=$(allocated)
  cpu0=$(cpu_of hpmta) load0=$(cpu_of load)
  sample_memory hpmta
  if ! relay --duration "${seconds}s" "$@"; then
    end_memory
    cat "$work/relay.log" >&2
    fail "$curve $x: mail was lost or refused"
  fi
  end_memory
  bytes1=$(allocated)
  # The last of that name: a message with many recipients comes to the sink in several copies, which the sink counts each.
  delivered=$(json_number delivered "$work/relay.json")
  [ "$delivered" -gt 0 ] || fail "$curve $x: nothing was delivered in $seconds s"
  [ "$(json_number refused "$work/relay.json")" = 0 ] || { cat "$work/relay.log" >&2; fail "$curve $x: mail was refused"; }
  awk -v OFS='\t' -v x="$x" -v n="$delivered" -v rate="$(json_number delivered_per_second "$work/relay.json")" -v cpu0="$cpu0" -v cpu1="$(cpu_of hpmta)" \
    -v load0="$load0" -v load1="$(cpu_of load)" -v pss="$(peak_memory)" -v b0="$bytes0" -v b1="$bytes1" '
    BEGIN { print x, rate, (cpu1 - cpu0) * 1000 / n, (load1 - load0) * 1000 / n, pss / 1024, (b0 == "-" || b1 == "-" ? "-" : (b1 - b0) / 1024 / n) }' >>"$work/$curve.tsv"
  tail -1 "$work/$curve.tsv" | awk -F'\t' -v curve="$curve" '{ printf "  %-10s %9d: %8.1f delivered/s  cpu %.3f s/1000  %4.0f MiB\n", curve, $1, $2, $3, $5 }' >&2
}

# places FULL QUICK: which of the two.
places() { if [ $quick = yes ]; then echo "$2"; else echo "$1"; fi; }

curve_sessions() {
  local x
  start 0
  for x in $(places "1 2 5 10 20 50 100 200 500 1000 2000 5000" "1 20 200 2000"); do
    [ $((x * 2)) -lt "$files" ] || { say "sessions: $x need more open files than $files, left out"; continue; }
    for _ in $(seq "$runs"); do place sessions "$x" --connections "$x" --ramp "$((x / 5))ms" --size 1KiB; done
  done
}

curve_size() {
  local x
  start 0
  for x in $(places "1024 4096 16384 65536 262144 1048576 4194304 16777216 52428800" "1024 65536 1048576 16777216"); do
    for _ in $(seq "$runs"); do place size "$x" --connections 20 --size "$x"; done
  done
}

curve_recipients() {
  local x
  start 0
  for x in $(places "1 2 5 10 20 50 100 200 500 1000" "1 10 100 1000"); do
    for _ in $(seq "$runs"); do place recipients "$x" --connections 20 --size 1KiB --recipients "$x"; done
  done
}

curve_domains() {
  local x
  start 0
  for x in $(places "1 10 100 1000 10000 100000" "1 100 10000"); do
    for _ in $(seq "$runs"); do place domains "$x" --connections 20 --size 1KiB --to "user@d{n%$x}.invalid"; done
  done
}

curve_sites() {
  local x
  for x in $(places "1 10 100 1000 10000 100000" "1 100 10000"); do
    start "$x"
    for _ in $(seq "$runs"); do place sites "$x" --connections 20 --size 1KiB --to "user@d{n%$x}.invalid"; done
  done
}

# about CURVE: its properties in the JSON.
about() {
  case $1 in
    sessions) echo '"title": "Sessions at once: 1 KiB messages, connections kept", "across": "sessions"' ;;
    size) echo '"title": "Size of a message: 20 sessions", "across": "size", "octets": true, "per": "CPU seconds / GiB", "per_factor": 1073741.824' ;;
    recipients) echo '"title": "Recipients of a message: 1 KiB, 20 sessions, one domain", "across": "recipients", "per": "CPU seconds / 1,000 recipients"' ;;
    domains) echo '"title": "Domains in turn behind one next hop: 1 KiB, 20 sessions", "across": "domains"' ;;
    sites) echo '"title": "Domains in turn, each a site with connections of its own: 1 KiB, 20 sessions", "across": "sites"' ;;
  esac
}

# json FILE: medians.
json() {
  local curve comma=''
  {
    printf '{\n  "kind": "scale",\n  "date": "%s",\n  "machine": "%s",\n' "$(date -u +%Y-%m-%dT%H:%M:%SZ)" "$(machine)"
    printf '  "versions": {"hpmta": "%s"},\n  "curves": [' "$("$hpmta" version | head -1 | sed 's/["\\]//g')"
    for curve in ${curves//,/ }; do
      printf '%s\n    {"key": "%s", %s, "points": [' "$comma" "$curve" "$(about "$curve")"
      awk -F'\t' '
        function median(x, c,   i, j, n, v, t) {
          n = runs[x]
          for (i = 1; i <= n; i++) v[i] = value[x, i, c]
          if (v[1] == "-") return "null"
          for (i = 2; i <= n; i++) { t = v[i] + 0; for (j = i - 1; j > 0 && v[j] + 0 > t; j--) v[j + 1] = v[j]; v[j + 1] = t }
          return sprintf("%.5f", n % 2 ? v[(n + 1) / 2] : (v[n / 2] + v[n / 2 + 1]) / 2)
        }
        { if (!($1 in runs)) order[++count] = $1; runs[$1]++; for (c = 2; c <= 6; c++) value[$1, runs[$1], c] = $c }
        END {
          for (i = 1; i <= count; i++) {
            x = order[i]
            printf "%s\n      {\"x\": %d, \"runs\": %d, \"delivered_per_second\": %s, \"cpu_seconds_per_1000\": %s, \"load_cpu_seconds_per_1000\": %s, \"peak_pss_mib\": %s, \"allocated_kib_per_message\": %s}", (i > 1 ? "," : ""), x, runs[x], median(x, 2), median(x, 3), median(x, 4), median(x, 5), median(x, 6)
          }
        }' "$work/$curve.tsv"
      printf '\n    ]}'
      comma=','
    done
    printf '\n  ]\n}\n'
  } >"$1"
}

for curve in ${curves//,/ }; do
  [ -n "$(about "$curve")" ] || { usage >&2; exit 2; }
done
prepare
open_groups hpmta load
for curve in ${curves//,/ }; do
  say "$curve"
  : >"$work/$curve.tsv"
  "curve_$curve"
done
name=scale
[ "$published" != "$here/out" ] || name=scale-$(date -u +%Y%m%dT%H%M%SZ)
json "$published/$name.json"
"$hpload" chart "$published/$name.json"
