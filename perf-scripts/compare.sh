#!/usr/bin/env bash
# Postfix and hpmta side by side: the same source, the same sink, the same disk, alternating, medians.
# Needs root (Postfix's master does). See README.md in this directory for what each figure means.
set -euo pipefail

usage() {
  cat <<'EOF'
usage: compare.sh [options]
  --quick            1 KiB over reused connections with smtp-source, 3 runs: two minutes
  --runs N           runs of each cell, medians are printed (default 3)
  --sizes LIST       octets (default 1024,10240,102400)
  --modes LIST       reused,single: one message per connection (default both)
  --tools LIST       smtp-source,hpload (default both)
  --mtas LIST        direct,postfix,hpmta (default all; direct is the source straight into the sink)
  --messages N       messages a run for hpmta and direct at 1 KiB (default 20000); larger sizes take a share of it
  --postfix-messages N  the same for Postfix (default 3000)
  --sessions N       connections at once (default 20)
  --work DIR         where queues and logs are put (default: a new directory in /var/tmp)
  --no-build         use the Release build that is there
EOF
}

here=$(cd "$(dirname "$0")" && pwd)
root=$(dirname "$here")
runs=3 sizes=1024,10240,102400 modes=reused,single tools=smtp-source,hpload mtas=direct,postfix,hpmta
messages=20000 postfix_messages=3000 sessions=20 work='' build=yes
while [ $# -gt 0 ]; do
  case $1 in
    --quick) sizes=1024 modes=reused tools=smtp-source messages=10000 postfix_messages=2500; shift ;;
    --runs) runs=$2; shift 2 ;;
    --sizes) sizes=$2; shift 2 ;;
    --modes) modes=$2; shift 2 ;;
    --tools) tools=$2; shift 2 ;;
    --mtas) mtas=$2; shift 2 ;;
    --messages) messages=$2; shift 2 ;;
    --postfix-messages) postfix_messages=$2; shift 2 ;;
    --sessions) sessions=$2; shift 2 ;;
    --work) work=$2; shift 2 ;;
    --no-build) build=no; shift ;;
    -h | --help) usage; exit 0 ;;
    *) usage >&2; exit 2 ;;
  esac
done
[ "$(id -u)" = 0 ] || { echo "compare.sh: needs root, for Postfix's master and its own queue directory" >&2; exit 2; }

# shellcheck source=lib.sh
. "$here/lib.sh"
[ -n "$work" ] || work=$(mktemp -d /var/tmp/hpmta-compare.XXXXXX)
mkdir -p "$work" "$here/out"
chmod 755 "$work"
results=$work/results.tsv
: >"$results"
sink_port=$(free_port) postfix_port=$(free_port) hpmta_port=$(free_port)
hpload=$root/bench/HighPerfMta.LoadGen/bin/Release/net10.0/hpload
hpmta=$root/src/HighPerfMta.Server/bin/Release/net10.0/hpmta

cleanup() {
  trap - EXIT INT TERM
  stop_postfix
  stop_hpmta
  kill_children
  drop_groups
  case $work in /var/tmp/hpmta-compare.*) rm -rf "$work" ;; esac
}
trap cleanup EXIT
trap 'exit 130' INT TERM

wants() { case ",$1," in *",$2,"*) return 0 ;; *) return 1 ;; esac }

prepare() {
  if { wants "$mtas" postfix || wants "$tools" smtp-source; } && ! command -v smtp-source >/dev/null 2>&1; then
    DEBIAN_FRONTEND=noninteractive apt-get install -y -q postfix >"$work/apt.log" 2>&1 \
      || { echo "compare.sh: postfix cannot be installed, see $work/apt.log" >&2; exit 1; }
  fi
  if [ $build = yes ]; then
    (cd "$root" && timeout 600 dotnet build -c Release -v q src/HighPerfMta.Server && timeout 600 dotnet build -c Release -v q bench/HighPerfMta.LoadGen) >"$work/build.log" 2>&1 \
      || { tail -20 "$work/build.log" >&2; exit 1; }
  fi
}

# A private instance: own configuration, queue and data directories, own ports, log to a file, nothing of the system's touched.
start_postfix() {
  local dir=$work/postfix daemons
  daemons=$(postconf -d -h daemon_directory)
  rm -rf "$dir"
  mkdir -p "$dir/etc" "$dir/queue" "$dir/data"
  chmod 755 "$dir" "$dir/etc" "$dir/queue"
  chown postfix "$dir/data"
  cat >"$dir/etc/main.cf" <<EOF
compatibility_level = 3.6
queue_directory = $dir/queue
data_directory = $dir/data
daemon_directory = $daemons
maillog_file = $dir/maillog
maillog_file_prefixes = $work
myhostname = compare.invalid
mydestination =
local_recipient_maps =
alias_maps =
alias_database =
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
mynetworks = 127.0.0.0/8
relayhost = [127.0.0.1]:$sink_port
smtp_dns_support_level = disabled
smtpd_peername_lookup = no
smtpd_client_restrictions =
smtpd_relay_restrictions = permit_mynetworks, reject
smtpd_recipient_restrictions =
smtpd_client_connection_count_limit = 0
smtpd_tls_security_level = none
smtp_tls_security_level = none
local_header_rewrite_clients =
default_process_limit = 100
in_flow_delay = 0
qmgr_message_active_limit = 20000
initial_destination_concurrency = 20
default_destination_concurrency_limit = 50
smtp_connection_cache_destinations = [127.0.0.1]:$sink_port, 127.0.0.1
smtp_connection_reuse_count_limit = 0
message_size_limit = 104857600
EOF
  cat >"$dir/etc/master.cf" <<EOF
127.0.0.1:$postfix_port inet n - n - - smtpd
pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
proxywrite unix - - n - 1 proxymap
smtp unix - - n - - smtp
relay unix - - n - - smtp
showq unix n - n - - showq
error unix - - n - - error
retry unix - - n - - error
discard unix - - n - - discard
local unix - n n - - local
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
postlog unix-dgram n - n - 1 postlogd
EOF
  in_group postfix timeout 60 postfix -c "$dir/etc" start >"$dir/start.log" 2>&1 || { cat "$dir/start.log" >&2; return 1; }
  await_port "$postfix_port" || { cat "$dir/start.log" "$dir/maillog" >&2; return 1; }
  group_root postfix "$(tr -d ' ' <"$dir/queue/pid/master.pid")"
}

stop_postfix() {
  [ -f "$work/postfix/queue/pid/master.pid" ] || return 0
  timeout 30 postfix -c "$work/postfix/etc" stop >/dev/null 2>&1 || true
}

start_hpmta() {
  local dir=$work/hpmta
  rm -rf "$dir"
  mkdir -p "$dir"
  cat >"$dir/hpmta.toml" <<EOF
hostname = "compare.invalid"
data_dir = "$dir/data"

[[listener]]
address = "127.0.0.1:$hpmta_port"
profile = "relay"

[queue]
sync = true

[admin]
http = ""

[[route]]
domains = ["*"]
to = "smtp://127.0.0.1:$sink_port"
EOF
  in_group hpmta "$hpmta" serve --config "$dir/hpmta.toml" >"$dir/log" 2>&1 &
  hpmta_pid=$!
  await_port "$hpmta_port" || { tail -20 "$dir/log" >&2; return 1; }
  group_root hpmta "$hpmta_pid"
}

stop_hpmta() {
  [ -n "${hpmta_pid:-}" ] || return 0
  kill "$hpmta_pid" 2>/dev/null || true
  for _ in $(seq 100); do kill -0 "$hpmta_pid" 2>/dev/null || break; sleep 0.1; done
  kill -9 "$hpmta_pid" 2>/dev/null || true
  hpmta_pid=''
}

restart() {
  case $1 in
    postfix) stop_postfix; start_postfix ;;
    hpmta) stop_hpmta; start_hpmta ;;
  esac
}

# A sink that ends takes its last replies with it, so a few messages stay deferred. Their retry minutes later would meet
# no sink and put the next hop to rest in the middle of another run.
drop_leftovers() {
  case $1 in
    postfix) timeout 30 postsuper -c "$work/postfix/etc" -d ALL >/dev/null 2>&1 ;;
    hpmta)
      local left
      left=$(timeout 30 "$hpmta" queue count --config "$work/hpmta/hpmta.toml" | awk '$1 == "total" { print $2 }') || return 1
      [ "$left" = 0 ] || timeout 30 "$hpmta" queue drop --all --config "$work/hpmta/hpmta.toml" >/dev/null
      ;;
  esac
}

# count MTA SIZE: larger messages take a share, so that each run lasts about as long.
count() {
  local base=$messages
  [ "$1" = postfix ] && base=$postfix_messages
  if [ "$2" -le 2048 ]; then echo "$base"
  elif [ "$2" -le 20480 ]; then echo $((base * 2 / 3))
  else echo $((base / 5)); fi
}

# run_cell MTA TOOL MODE SIZE: one run; a line in the results unless WARM is set.
run_cell() {
  local mta=$1 tool=$2 mode=$3 size=$4 n port started accepted delivered cpu0 load0 flush0 ok=yes
  n=${WARM:-$(count "$mta" "$size")}
  case $mta in direct) port=$sink_port ;; postfix) port=$postfix_port ;; *) port=$hpmta_port ;; esac
  cpu0=$(cpu_of "$mta") flush0=$(flushes "$work")
  load0=$(cpu_of load)
  sample_memory "$mta"
  if [ "$tool" = smtp-source ]; then
    local reuse='' quit="-M $n"
    [ "$mode" = reused ] && reuse=-d
    # Straight into the sink, the source's last reply would be lost with it: there the source's end is the end.
    [ "$mta" = direct ] && quit=''
    # shellcheck disable=SC2086
    in_group load timeout 300 smtp-sink -u nobody $quit "127.0.0.1:$sink_port" 1000 2>"$work/sink.log" &
    local sink=$!
    await_port "$sink_port" quiet || ok=no
    started=$(now)
    # shellcheck disable=SC2086
    in_group load timeout 300 smtp-source $reuse -s "$sessions" -m "$n" -l "$size" -f load@load.invalid -t user@sink.invalid "127.0.0.1:$port" 2>"$work/source.log" || ok=no
    accepted=$(now)
    if [ "$mta" = direct ]; then
      kill "$sink"
      wait "$sink" 2>/dev/null || true
      delivered=$accepted
    else
      wait "$sink" || ok=no
      delivered=$(now)
    fi
    [ $ok = yes ] || { cat "$work/source.log" "$work/sink.log" >&2; }
  else
    local per=0 args
    [ "$mode" = single ] && per=1
    args="--connections $sessions --messages-per-connection $per --size $size --count $n --json $work/hpload.json"
    started=0
    # shellcheck disable=SC2086
    if [ "$mta" = direct ]; then
      in_group load timeout 300 "$hpload" relay --mta "127.0.0.1:$sink_port" --sink "127.0.0.1:$sink_port" $args --expect "$n" >"$work/hpload.log" 2>&1 || ok=no
    else
      in_group load timeout 300 "$hpload" relay --mta "127.0.0.1:$port" --sink "127.0.0.1:$sink_port" $args --expect "$n" >"$work/hpload.log" 2>&1 || ok=no
    fi
    [ $ok = yes ] || cat "$work/hpload.log" >&2
    accepted=$(json_number accepted_per_second "$work/hpload.json")
    delivered=$(json_number delivered_per_second "$work/hpload.json")
  fi
  sleep 0.3
  end_memory
  local cpu1 load1 flush1
  cpu1=$(cpu_of "$mta") load1=$(cpu_of load) flush1=$(flushes "$work")
  drop_leftovers "$mta" || { echo "compare.sh: the queue of $mta cannot be emptied" >&2; ok=no; }
  if [ $ok = no ]; then
    echo "compare.sh: $mta with $tool, $mode, $size octets: a run failed" >&2
    printf '%s\t%s\t%s\t%s\tfailed\n' "$mta" "$tool" "$mode" "$size" >>"$work/failed.tsv"
    restart "$mta"
    return 0
  fi
  [ -z "${WARM:-}" ] || return 0
  awk -v OFS='\t' -v mta="$mta" -v tool="$tool" -v mode="$mode" -v size="$size" -v n="$n" -v s="$started" -v a="$accepted" -v d="$delivered" \
    -v cpu0="$cpu0" -v cpu1="$cpu1" -v load0="$load0" -v load1="$load1" -v f0="$flush0" -v f1="$flush1" -v pss="$(peak_memory)" '
    BEGIN {
      print mta, tool, mode, size, n, (s > 0 ? n / (a - s) : a), (s > 0 ? n / (d - s) : d),
        (mta == "direct" ? "-" : (cpu1 - cpu0) * 1000 / n), (load1 - load0) * 1000 / n,
        (mta == "direct" ? "-" : pss / 1024), (mta == "direct" || f0 < 0 ? "-" : (f1 - f0) / n)
    }' >>"$results"
  tail -1 "$results" | awk -F'\t' '{ printf "  %-8s %-11s %-6s %6d: %8.0f accepted/s %8.0f delivered/s  cpu %s s/1000\n", $1, $2, $3, $4, $6, $7, $8 }' >&2
}

prepare
open_groups postfix hpmta load
! wants "$mtas" postfix || start_postfix
! wants "$mtas" hpmta || start_hpmta
for mta in ${mtas//,/ }; do
  for tool in ${tools//,/ }; do
    warm=500
    # The runtime goes on compiling what is hot for tens of thousands of messages; a server runs for months.
    [ "$mta" = hpmta ] && warm=40000
    WARM=$warm run_cell "$mta" "$tool" reused 1024
  done
done
for size in ${sizes//,/ }; do
  for mode in ${modes//,/ }; do
    for tool in ${tools//,/ }; do
      for _ in $(seq "$runs"); do
        for mta in ${mtas//,/ }; do
          run_cell "$mta" "$tool" "$mode" "$size"
        done
      done
    done
  done
done

stamp=$(date -u +%Y%m%dT%H%M%SZ)
report "$results" "$here/out/compare-$stamp.json"
[ ! -s "$work/failed.tsv" ] || { echo "$(wc -l <"$work/failed.tsv") runs failed" >&2; exit 1; }
