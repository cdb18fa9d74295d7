#!/usr/bin/env bash
# Thousands of slow sessions beside a normal load: memory of one, and what they leave of the load's rate.
# See README.md in this directory for what is measured. Exit status 1 when a goal is missed.
set -euo pipefail

usage() {
  cat <<'EOT'
usage: slow.sh [options]
  --quick            2,000 sessions and short runs: half a minute; proves the script
  --sessions N       slow sessions (default 10000)
  --mix MIX          what they do (default idle:1,command:1,data:1)
  --every TIME       between two octets of a session (default 5s)
  --runs N           runs of the load without them, and with them; medians are kept (default 3)
  --seconds N        the time that each run sends for (default 6)
  --work DIR         where queue and logs are put (default: a new directory in /var/tmp)
  --no-build         use the Release build that is there
EOT
}

here=$(cd "$(dirname "$0")" && pwd)
root=$(dirname "$here")
sessions=10000 mix=idle:1,command:1,data:1 every=5s runs=3 seconds=6 warm=30000 work='' build=yes
hpload=$root/bench/HighPerfMta.LoadGen/bin/Release/net10.0/hpload
hpmta=$root/src/HighPerfMta.Server/bin/Release/net10.0/hpmta
while [ $# -gt 0 ]; do
  case $1 in
    --quick) sessions=2000 runs=1 seconds=3 warm=10000; shift ;;
    --sessions) sessions=$2; shift 2 ;;
    --mix) mix=$2; shift 2 ;;
    --every) every=$2; shift 2 ;;
    --runs) runs=$2; shift 2 ;;
    --seconds) seconds=$2; shift 2 ;;
    --work) work=$2; shift 2 ;;
    --no-build) build=no; shift ;;
    -h | --help) usage; exit 0 ;;
    *) usage >&2; exit 2 ;;
  esac
done

# shellcheck source=lib.sh
. "$here/lib.sh"
[ -n "$work" ] || work=$(mktemp -d /var/tmp/hpmta-slow.XXXXXX)
mkdir -p "$work"
sink_port=$(free_port) smtp_port=$(free_port)
server='' slow=''

cleanup() {
  trap - EXIT
  trap '' INT TERM
  end_process "$slow"
  end_process "$server"
  kill_children
  case $work in /var/tmp/hpmta-slow.*) rm -rf "$work" ;; *) rm -rf "$work/data" ;; esac
}
trap cleanup EXIT
trap 'exit 130' INT TERM

fail() { echo "slow.sh: $*" >&2; exit 1; }
say() { printf '%(%H:%M:%S)T %s\n' -1 "$*" >&2; }
pss() { awk '/^Pss:/ { print $2 }' "/proc/$server/smaps_rollup"; }

prepare() {
  ulimit -n $((sessions + 2000)) 2>/dev/null || ulimit -n "$(ulimit -Hn)"
  [ "$(ulimit -n)" -ge $((sessions + 1500)) ] || fail "$sessions sessions need $((sessions + 1500)) open files; raise the hard limit (ulimit -Hn)"
  [ $build = yes ] || return 0
  build_release "$root" "$work/build.log" || fail "the build failed"
}

start() {
  cat >"$work/hpmta.toml" <<EOT
hostname = "slow.invalid"
data_dir = "$work/data"

[[listener]]
address = "127.0.0.1:$smtp_port"
profile = "relay"

[limits]
connections = $((sessions + 500))
connections_per_ip = $((sessions + 500))

[queue]
sync = true
disk_low_water = "256MiB"

[admin]
http = ""

[[route]]
domains = ["*"]
to = "smtp://127.0.0.1:$sink_port"
EOT
  "$hpmta" serve --config "$work/hpmta.toml" >"$work/log" 2>&1 &
  server=$!
  await_port "$smtp_port" || { tail -20 "$work/log" >&2; fail "the server does not start"; }
}

# load FILE ARGUMENTS...: one run; its rate of delivery goes to the file, unless that is -.
load() {
  local file=$1
  shift
  timeout 300 "$hpload" relay --mta "127.0.0.1:$smtp_port" --sink "127.0.0.1:$sink_port" --connections 20 --size 1KiB --json "$work/relay.json" "$@" >"$work/relay.log" 2>&1 \
    || { cat "$work/relay.log" >&2; fail "mail was lost or refused"; }
  [ "$file" = - ] || json_number delivered_per_second "$work/relay.json" >>"$file"
}

runs_of() { for _ in $(seq "$runs"); do load "$1" --duration "${seconds}s"; done; }

hold() {
  rm -f "$work/ready"
  "$hpload" slow "127.0.0.1:$smtp_port" --sessions "$sessions" --mix "$mix" --every "$every" --duration $((runs * (seconds + 5) + 30))s --ramp $((sessions / 1000 + 1))s \
    --ready "$work/ready" --json "$work/slow.json" >"$work/slow.log" 2>&1 &
  slow=$!
  for _ in $(seq 1200); do
    [ ! -f "$work/ready" ] || break
    kill -0 "$slow" 2>/dev/null || { cat "$work/slow.log" >&2; fail "the slow sessions ended"; }
    sleep 0.1
  done
  [ "$(cat "$work/ready")" = "$sessions" ] || fail "$(cat "$work/ready") of $sessions slow sessions are there"
}

prepare
start
say "warming up"
load - --count "$warm"
say "without slow sessions"
runs_of "$work/without"
sleep 3
before=$(pss)
say "$sessions slow sessions"
hold
# Each has sent an octet or two.
sleep 8
with=$(pss)
runs_of "$work/with"
say "holding on"
status=0
wait "$slow" || status=1
slow=''
[ $status = 0 ] || { cat "$work/slow.log" >&2; fail "slow sessions were ended"; }
say "without them again"
runs_of "$work/without"

awk -v n="$sessions" -v mix="$mix" -v every="$every" -v a="$(median <"$work/without")" -v b="$(median <"$work/with")" -v p0="$before" -v p1="$with" '
  BEGIN {
    printf "%d slow sessions (%s, an octet every %s)\n", n, mix, every
    printf "memory of a slow session   %.1f KiB (PSS %.0f to %.0f MiB)\n", (p1 - p0) / n, p0 / 1024, p1 / 1024
    printf "delivered without them     %.0f/s\n", a
    printf "delivered with them        %.0f/s, %.0f %% (goal: 80 %%)\n", b, 100 * b / a
    exit b < 0.8 * a
  }' || status=1
echo "machine: $(machine | sed 's/, times by.*//')"
exit $status
