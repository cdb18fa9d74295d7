#!/usr/bin/env bash
# A queue of N deferred jobs: memory for each, start, new mail beside it, idle processor time, disk, and the time that queries take.
# One table with a verdict per goal; exit status 1 when a goal is missed. See README.md in this directory for what each figure means.
set -euo pipefail

usage() {
  cat <<'EOT'
usage: backlog.sh [options]
  --jobs N           deferred jobs, one message with one recipient each (default 1000000)
  --quick            50,000 jobs and shorter waits
  --domains N        recipients' domains (default 1000)
  --senders N        senders, each of its own domain (default 100)
  --size OCTETS      of each message; what hpload adds makes 320 the least (default 320)
  --kill             the restart after SIGKILL instead of SIGTERM
  --runs N           runs of the rate of new mail, with and without the backlog, and of each query (default 3)
  --messages N       new messages a run (default 20000)
  --connections N    connections of the load (default 20)
  --idle SECONDS     the time that idle processor time is measured over (default 60)
  --work DIR         where queues and logs are put (default: a new directory in /var/tmp)
  --hpmta FILE       the server to measure (default: the Release build of this tree)
  --no-build         use the Release build that is there
EOT
}

here=$(cd "$(dirname "$0")" && pwd)
root=$(dirname "$here")
jobs_wanted=1000000 domains=1000 senders=100 size=320 signal=TERM runs=3 messages=20000 warm=40000 connections=20 idle=60 settle=15 early=1000 work='' build=yes
hpload=$root/bench/HighPerfMta.LoadGen/bin/Release/net10.0/hpload
hpmta=$root/src/HighPerfMta.Server/bin/Release/net10.0/hpmta
while [ $# -gt 0 ]; do
  case $1 in
    --jobs) jobs_wanted=$2; shift 2 ;;
    --quick) jobs_wanted=50000 messages=10000 warm=20000 idle=15 settle=6; shift ;;
    --domains) domains=$2; shift 2 ;;
    --senders) senders=$2; shift 2 ;;
    --size) size=$2; shift 2 ;;
    --kill) signal=KILL; shift ;;
    --runs) runs=$2; shift 2 ;;
    --messages) messages=$2; shift 2 ;;
    --connections) connections=$2; shift 2 ;;
    --idle) idle=$2; shift 2 ;;
    --work) work=$2; shift 2 ;;
    --hpmta) hpmta=$(realpath "$2"); shift 2 ;;
    --no-build) build=no; shift ;;
    -h | --help) usage; exit 0 ;;
    *) usage >&2; exit 2 ;;
  esac
done
[ "$jobs_wanted" -gt $((2 * early)) ] || { echo "backlog.sh: --jobs is more than $((2 * early))" >&2; exit 2; }

# shellcheck source=lib.sh
. "$here/lib.sh"
[ -n "$work" ] || work=$(mktemp -d /var/tmp/hpmta-backlog.XXXXXX)
mkdir -p "$work" "$here/out"
results=$work/results.tsv
: >"$results"
reply='4.7.1 Greylisted, try again later'
declare -A pid=() smtp_port=() http_port=()
fresh_port=$(free_port) early_port=$(free_port) parked_port=$(free_port)

cleanup() {
  trap - EXIT
  trap '' INT TERM
  local child
  for child in "${pid[@]}"; do kill "$child" 2>/dev/null || true; done
  for child in "${pid[@]}"; do
    for _ in $(seq 100); do kill -0 "$child" 2>/dev/null || break; sleep 0.1; done
    kill -9 "$child" 2>/dev/null || true
  done
  kill_children
  case $work in /var/tmp/hpmta-backlog.*) rm -rf "$work" ;; *) rm -rf "$work/backlog/data" "$work/plain/data" ;; esac
}
trap cleanup EXIT
trap 'exit 130' INT TERM

fail() { echo "backlog.sh: $*" >&2; exit 1; }
say() { printf '%(%H:%M:%S)T %s\n' -1 "$*" >&2; }
calc() { awk "BEGIN { printf \"%.6g\", ($*) }"; }
# result KEY LABEL VALUE UNIT [GOAL]; a value of - is one that could not be had. The goal is "<= X" or ">= X".
result() { printf '%s\t%s\t%s\t%s\t%s\n' "$1" "$2" "$3" "$4" "${5:-}" >>"$results"; }

prepare() {
  # Accepted, deferred, the mail of the measurements, and as much again for what is being moved.
  local need=$((jobs_wanted * (size + 500) * 2 / 1048576 + 2048)) free
  free=$(df -Pm "$work" | awk 'NR == 2 { print $4 }')
  [ "$free" -ge "$need" ] || fail "$work has $free MiB free, $need are needed"
  [ $build = yes ] || return 0
  build_release "$root" "$work/build.log" || fail "the build failed"
}

# configure NAME: a server of its own. The schedule keeps the backlog parked; new mail, what is to be due at the restart, and the backlog have a next hop each.
configure() {
  local dir=$work/$1
  smtp_port[$1]=$(free_port) http_port[$1]=$(free_port)
  rm -rf "$dir"
  mkdir -p "$dir"
  cat >"$dir/hpmta.toml" <<EOT
hostname = "backlog.invalid"
data_dir = "$dir/data"

[[listener]]
address = "127.0.0.1:${smtp_port[$1]}"
profile = "relay"

[queue]
sync = true
disk_low_water = "256MiB"

[admin]
http = "127.0.0.1:${http_port[$1]}"

[retry]
schedule = ["24h"]
expire = "5d"
delay_notice = "off"

[[route]]
domains = ["fresh.invalid"]
to = "smtp://127.0.0.1:$fresh_port"

[[route]]
domains = ["early.invalid"]
to = "smtp://127.0.0.1:$early_port"

[[route]]
domains = ["*"]
to = "smtp://127.0.0.1:$parked_port"
EOT
}

launch() {
  "$hpmta" serve --config "$work/$1/hpmta.toml" >>"$work/$1/log" 2>&1 &
  pid[$1]=$!
}

start() {
  launch "$1"
  await_port "${smtp_port[$1]}" || { tail -20 "$work/$1/log" >&2; fail "the server does not start"; }
}

# stop NAME SIGNAL
stop() {
  [ -n "${pid[$1]:-}" ] || return 0
  kill "-$2" "${pid[$1]}" 2>/dev/null || true
  for _ in $(seq 600); do kill -0 "${pid[$1]}" 2>/dev/null || break; sleep 0.1; done
  kill -9 "${pid[$1]}" 2>/dev/null || true
  wait "${pid[$1]}" 2>/dev/null || true
  unset "pid[$1]"
}

# start_sink NAME PORT [OPTIONS]
start_sink() {
  local name=$1 port=$2
  shift 2
  "$hpload" sink "127.0.0.1:$port" --json "$work/$name.json" "$@" >/dev/null 2>"$work/$name.log" &
  pid[$name]=$!
  await_port "$port" quiet || fail "the sink $name does not start: $(cat "$work/$name.log")"
}

send() {
  local name=$1 count=$2
  shift 2
  timeout "$((count / 250 + 120))" "$hpload" source "127.0.0.1:${smtp_port[$name]}" --connections "$connections" --count "$count" --pipeline 2 --json "$work/source.json" "$@" >"$work/source.log" 2>&1 \
    || { cat "$work/source.log" >&2; fail "the source failed"; }
  [ "$(json_number accepted "$work/source.json")" = "$count" ] || { cat "$work/source.log" >&2; fail "the server refused mail"; }
}

# relay NAME COUNT: new mail end to end; prints messages a second.
relay() {
  timeout 300 "$hpload" relay --mta "127.0.0.1:${smtp_port[$1]}" --sink "127.0.0.1:$fresh_port" --to 'user{n}@fresh.invalid' --size 1KiB --connections "$connections" \
    --count "$2" --expect "$2" --json "$work/relay.json" >"$work/relay.log" 2>&1 || { cat "$work/relay.log" >&2; fail "new mail was lost or refused"; }
  json_number delivered_per_second "$work/relay.json"
}

# metric NAME SERIES: - when the server has none like that.
metric() {
  fetch "http://127.0.0.1:${http_port[$1]}/metrics" 2>/dev/null | awk -v series="$2" '$1 == series { value = $2; found = 1 } END { print found ? value : "-" }'
}
# at_least NAME SERIES VALUE SECONDS: waits until a metric has grown to the value.
at_least() {
  local value='' begun=$SECONDS told=$SECONDS
  while [ $((SECONDS - begun)) -lt "$4" ]; do
    value=$(metric "$1" "$2")
    ! awk -v a="$value" -v b="$3" 'BEGIN { exit !(a != "-" && a + 0 >= b) }' || return 0
    [ $((SECONDS - told)) -lt 30 ] || { say "$2: $value of $3"; told=$SECONDS; }
    sleep 0.5
  done
  say "$2 is $value after $4 s, $3 were expected"
  return 1
}

# memory NAME FIELD: KiB of the process, such as Pss and Rss.
memory() { awk -v field="$2:" '$1 == field { print $2; exit }' "/proc/${pid[$1]}/smaps_rollup"; }
cpu_seconds() { sed 's/.*) //' "/proc/${pid[$1]}/stat" | awk -v tick="$(getconf CLK_TCK)" '{ print ($12 + $13) / tick }'; }

build_backlog() {
  local begun=$SECONDS
  start_sink parked "$parked_port" --defer "100%:450:$reply"
  start_sink early "$early_port" --defer "100%:450:$reply"
  say "building: $jobs_wanted jobs"
  send backlog $((jobs_wanted - early)) --size "$size" --from "sender@s{n/$domains%$senders}.invalid" --to "user{n}@d{n%$domains}.backlog.invalid"
  send backlog "$early" --size "$size" --from "sender@s{n%$senders}.invalid" --to 'user{n}@early.invalid'
  at_least backlog 'hpmta_mail_events_total{event="deferred"}' "$jobs_wanted" "$((jobs_wanted / 250 + 120))" || fail "the backlog was not tried whole"
  say "built and deferred in $((SECONDS - begun)) s"
  result build_seconds "built and deferred once" $((SECONDS - begun)) s
  stop parked TERM
}

# Memory before and after in one process; the first has compiled and rented what new mail needs.
measure_growth() {
  local before after
  relay backlog "$warm" >/dev/null
  sleep "$settle"
  before=$(memory backlog Pss)
  build_backlog
  sleep "$settle"
  after=$(memory backlog Pss)
  result growth_running "growth, the process that took it all" "$(calc "($after - $before) * 1024 / $jobs_wanted")" B/job
}

# What was tried before is due at once after the restart: retried while nobody listens, the jobs keep their time.
make_due() {
  stop early TERM
  timeout 60 "$hpmta" queue retry --domain early.invalid --config "$work/backlog/hpmta.toml" >"$work/retry.log" || fail "queue retry failed"
  sleep 2
}

measure_start() {
  local begun probe_pid goal=5
  [ "$jobs_wanted" -le 1000000 ] || goal=30
  begun=$(now)
  stop backlog $signal
  result stop_seconds "stopped by SIG$signal" "$(calc "$(now) - $begun")" s
  start_sink early "$early_port"
  start_sink fresh "$fresh_port" --count 1 --duration 300s
  timeout 400 "$hpload" probe "127.0.0.1:${smtp_port[backlog]}" --to probe@fresh.invalid --timeout 300s --json "$work/probe.json" >"$work/probe.log" 2>&1 &
  probe_pid=$!
  sleep 1
  begun=$(now)
  launch backlog
  wait "$probe_pid" || { tail -5 "$work/backlog/log" >&2; fail "no message was accepted after the restart"; }
  wait "${pid[fresh]}" || true
  unset "pid[fresh]"
  at_least backlog 'hpmta_mail_events_total{event="delivered"}' 2 300 || fail "nothing of before the restart was delivered"
  at_least backlog hpmta_queue_messages $((jobs_wanted - early)) 600 || fail "the queue is not whole after the restart"
  if [ "$(metric backlog hpmta_queue_loading)" != - ]; then
    while [ "$(metric backlog hpmta_queue_loading)" != 0 ]; do sleep 0.2; done
  fi
  result start_loaded "from start to all of the queue there, at most" "$(calc "$(now) - $begun")" s
  result start_accepted "from start to the first message accepted" "$(calc "$(json_number accepted_at "$work/probe.json") - $begun")" s '<= 1'
  [ "$(json_number first_at "$work/fresh.json")" != 0 ] || fail "the new message was not delivered after the restart"
  result start_fresh "from start to the first new one delivered" "$(calc "$(json_number first_at "$work/fresh.json") - $begun")" s "<= $goal"
  sleep "$settle"
  stop early TERM
  [ "$(json_number first_at "$work/early.json")" != 0 ] || fail "none that was due came to the sink after the restart"
  result start_old "from start to the first old one delivered" "$(calc "$(json_number first_at "$work/early.json") - $begun")" s "<= $goal"
  result start_old_count "old ones delivered of $early due" "$(json_number delivered "$work/early.json")" ''
}

measure_memory() {
  local queued index pss
  queued=$(metric backlog hpmta_queue_messages)
  [ "$queued" != - ] || queued=$((jobs_wanted - early))
  index=$(metric backlog hpmta_queue_index_bytes)
  pss=$(memory backlog Pss)
  result queued "jobs queued now" "$queued" ''
  # The table grows by chunks of 1 MiB, of which one is not full.
  if [ "$index" != - ]; then index=$(calc "($index > 1048576 ? $index - 1048576 : $index) / $queued"); fi
  result index "index" "$index" B/job '<= 64'
  result pss "PSS after the restart" "$(calc "$pss / 1024")" MiB
  result rss "RSS after the restart" "$(calc "$(memory backlog Rss) / 1024")" MiB
  result pss_plain "PSS of the same with an empty queue" "$(calc "$plain_pss / 1024")" MiB
  result growth "growth, after a restart" "$(calc "($pss - $plain_pss) * 1024 / $queued")" B/job "<= $(calc "100 + $allowance * 1048576 / $queued")"
}

measure_idle() {
  local before begun
  say "idle for $idle s"
  begun=$(now) before=$(cpu_seconds backlog)
  sleep "$idle"
  result idle "processor time with all parked" "$(calc "100 * ($(cpu_seconds backlog) - $before) / ($(now) - $begun)")" '% of one' '<= 1'
}

# query KEY LABEL PATH BODY ARGUMENTS...: wall time of the command, its own start included, and of the server's answer alone.
query() {
  local key=$1 label=$2 path=$3 body=$4 begun limit
  shift 4
  limit=$(calc "$jobs_wanted > 1000000 ? $jobs_wanted / 1000000 : 1")
  for _ in $(seq "$runs"); do
    begun=$(now)
    timeout 300 "$hpmta" queue "$@" --config "$work/backlog/hpmta.toml" >"$work/query.out" 2>"$work/query.err" || { cat "$work/query.err" >&2; fail "queue $* failed"; }
    calc "$(now) - $begun"
    echo
  done | median >"$work/median"
  result "$key" "$label" "$(cat "$work/median")" s "<= $limit"
  command -v curl >/dev/null 2>&1 || return 0
  for _ in $(seq "$runs"); do
    curl -fsS -m 300 -o "$work/query.out" -w '%{time_total}\n' --unix-socket "$work/backlog/data/admin.sock" -H 'Content-Type: application/json' -d "$body" "http://admin/control/$path" >"$work/seconds" \
      || fail "the server does not answer control/$path"
    cat "$work/seconds"
  done | median >"$work/median"
  result "${key}_server" "   of that the server" "$(cat "$work/median")" s
}

measure_queries() {
  say "queries"
  local filter='"ids":[],"all":false' all='{"ids":[],"all":true}'
  query count_all "queue count" count "{\"filter\":$all}" count
  query count_domain "queue count --domain" count "{\"filter\":{$filter,\"domain\":\"d7.backlog.invalid\"}}" count --domain d7.backlog.invalid
  query count_by "queue count --by domain" count "{\"filter\":$all,\"by\":\"domain\"}" count --by domain
  query count_reason "queue count --state deferred --reason" count "{\"filter\":{$filter,\"state\":\"deferred\",\"reason\":\"greylist\"}}" count --state deferred --reason greylist
  query list_domain "queue list --domain --limit 100" list "{$filter,\"domain\":\"d7.backlog.invalid\",\"limit\":100}" list --domain d7.backlog.invalid --limit 100
  query retry_dry "queue retry --all --dry-run" act "{\"action\":\"retry\",\"filter\":$all,\"dry_run\":true}" retry --all --dry-run
}

measure_new_mail() {
  local name run rate
  say "new mail, with and without the backlog"
  for name in plain backlog; do relay $name "$warm" >/dev/null; done
  for run in $(seq "$runs"); do
    for name in plain backlog; do
      sleep 2
      rate=$(relay $name "$messages")
      say "  $name, run $run: $rate/s"
      echo "$rate" >>"$work/rate.$name"
    done
  done
  local with without
  with=$(median <"$work/rate.backlog") without=$(median <"$work/rate.plain")
  result new_without "new mail without a backlog" "$without" msg/s
  result new_with "new mail beside the backlog" "$with" msg/s
  result new_ratio "with against without" "$(calc "100 * $with / $without")" % '>= 90'
}

# Segments between head and tail; those that wait for their turn are called spare and hold nothing.
segment_bytes() { find "$work/backlog/data/log" -name 'seg.*' -printf '%s\n' | awk '{ n += $1 } END { print n + 0 }'; }

measure_disk() {
  local segment used live source=metrics limit
  segment=$(find "$work/backlog/data/log" \( -name 'seg.*' -o -name 'spare.*' \) -printf '%s\n' | sort -n | tail -1)
  live=$(metric backlog hpmta_queue_live_bytes)
  if [ "$live" = - ]; then
    # Envelope, headers of the records and state took 316 octets a job in a log of nothing else.
    source='the message sizes'
    live=$(timeout 300 "$hpmta" queue count --config "$work/backlog/hpmta.toml" | awk '$1 == "total" { printf "%.0f", $4 + 316 * $2 }')
  fi
  limit=$(calc "(2 * $live + 2 * $segment) / 1048576")
  # What the new mail left behind is moved aside when the traffic has ended.
  for _ in $(seq 60); do
    used=$(segment_bytes)
    ! awk -v a="$used" -v b="$limit" 'BEGIN { exit !(a / 1048576 <= b) }' || break
    sleep 1
  done
  result disk_live "live bytes, by $source" "$(calc "$live / 1048576")" MiB
  result disk "segments between head and tail" "$(calc "$used / 1048576")" MiB "<= $limit"
  if [ -f "$work/backlog/data/log/checkpoint" ]; then
    result checkpoint "checkpoint besides" "$(calc "$(stat -c %s "$work/backlog/data/log/checkpoint") / 1048576")" MiB
  fi
}

# verdicts JSON: the table and the JSON; fails when a goal is missed.
verdicts() {
  local machine
  machine="$(nproc) processors, $(awk -F': ' '/model name/ { print $2; exit }' /proc/cpuinfo), $(awk '/MemTotal/ { printf "%.0f", $2 / 1048576 }' /proc/meminfo) GiB, Linux $(uname -r)"
  echo
  echo "machine: $machine"
  awk -F'\t' -v machine="$machine" -v jobs="$jobs_wanted" -v signal="$signal" -v version="$("$hpmta" version 2>/dev/null | head -1)" -v json="$1" '
    function shown(x) { return x == "-" || x ~ /^[0-9]+$/ ? x : x >= 1000 ? sprintf("%.0f", x) : x >= 10 ? sprintf("%.1f", x) : sprintf("%.3g", x) }
    BEGIN {
      printf "%-45s %10s %-9s %10s  %s\n", "with " jobs " deferred jobs", "value", "", "goal", "verdict"
      gsub(/["\\]/, "", version)
      printf "{\n  \"machine\": \"%s\",\n  \"version\": \"%s\",\n  \"jobs\": %d,\n  \"signal\": \"%s\",\n  \"results\": [", machine, version, jobs, signal > json
    }
    {
      verdict = goal = ""; limit = "null"
      if ($5 != "") {
        split($5, part, " ")
        limit = part[2]
        goal = part[1] " " shown(part[2])
        verdict = $3 == "-" ? "not told" : (part[1] == "<=" ? $3 + 0 <= part[2] + 0 : $3 + 0 >= part[2] + 0) ? "met" : "MISSED"
        missed += verdict == "MISSED"
      }
      printf "%-45s %10s %-9s %10s  %s\n", $2, shown($3), $4, goal, verdict
      printf "%s\n    {\"key\": \"%s\", \"value\": %s, \"unit\": \"%s\", \"goal\": %s, \"verdict\": \"%s\"}", comma, $1, ($3 == "-" ? "null" : $3), $4, limit, verdict > json
      comma = ","
    }
    END {
      printf "\n  ],\n  \"missed\": %d\n}\n", missed > json
      exit missed > 0
    }' "$results"
}

prepare
# Two starts of one process differ by so many MiB, which is much to each of a few jobs.
allowance=0
[ "$jobs_wanted" -ge 1000000 ] || allowance=8
configure plain
configure backlog
start plain
sleep "$settle"
plain_pss=$(memory plain Pss)
start backlog
measure_growth
make_due
measure_start
measure_memory
measure_idle
measure_queries
measure_new_mail
measure_disk
json=$here/out/backlog-$(date -u +%Y%m%dT%H%M%SZ).json
status=0
verdicts "$json" || status=1
echo "json: $json"
exit $status
