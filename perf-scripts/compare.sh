#!/usr/bin/env bash
# hpmta and its peers side by side: the same source, the same sink, the same disk, alternating, medians. A peer is a file of mtas/.
# Needs root (Postfix's master does). See README.md in this directory for what each figure means and how each peer is set up.
set -euo pipefail

usage() {
  cat <<'EOF'
usage: compare.sh [options]
  --quick            1 KiB over reused connections with smtp-source, few messages; results go to out/
  --runs N           runs of each cell, medians are printed (default 3)
  --sizes LIST       octets (default 1024,10240,102400)
  --modes LIST       reused,single: one message per connection (default both)
  --tools LIST       smtp-source,hpload (default both)
  --mtas LIST        direct,hpmta,postfix,exim,opensmtpd,sendmail,haraka (default all; direct is the source straight into the sink)
  --messages N       messages a run for hpmta and direct at 1 KiB (default 60000); larger sizes take a share of it
  --peer-messages N  the same for each peer (default: what takes it some ten seconds, see mtas/)
  --sessions N       connections at once (default 20)
  --results DIR      where the table, the charts and the JSON are written (default: results/ beside this script)
  --work DIR         where queues, logs and what is downloaded are put (default: a new directory in /var/tmp)
  --no-build         use the Release build that is there
EOF
}

here=$(cd "$(dirname "$0")" && pwd)
root=$(dirname "$here")
runs=3 sizes=1024,10240,102400 modes=reused,single tools=smtp-source,hpload mtas=direct,hpmta,postfix,exim,opensmtpd,sendmail,haraka
messages=60000 peer_messages='' sessions=20 work='' build=yes published=$here/results
while [ $# -gt 0 ]; do
  case $1 in
    --quick) sizes=1024 modes=reused tools=smtp-source messages=10000 peer_messages=1000 published=$here/out; shift ;;
    --runs) runs=$2; shift 2 ;;
    --sizes) sizes=$2; shift 2 ;;
    --modes) modes=$2; shift 2 ;;
    --tools) tools=$2; shift 2 ;;
    --mtas) mtas=$2; shift 2 ;;
    --messages) messages=$2; shift 2 ;;
    --peer-messages) peer_messages=$2; shift 2 ;;
    --sessions) sessions=$2; shift 2 ;;
    --results) published=$2; shift 2 ;;
    --work) work=$2; shift 2 ;;
    --no-build) build=no; shift ;;
    -h | --help) usage; exit 0 ;;
    *) usage >&2; exit 2 ;;
  esac
done
[ "$(id -u)" = 0 ] || { echo "compare.sh: needs root, for Postfix's master and the peers' own users" >&2; exit 2; }

# shellcheck source=lib.sh
. "$here/lib.sh"
# shellcheck source=mtas/packages.sh
. "$here/mtas/packages.sh"
for mta in ${mtas//,/ }; do
  [ "$mta" = direct ] || [ -f "$here/mtas/$mta.sh" ] || { echo "compare.sh: there is no MTA '$mta'" >&2; exit 2; }
  # shellcheck source=/dev/null
  [ "$mta" = direct ] || . "$here/mtas/$mta.sh"
done
[ -n "$work" ] || work=$(mktemp -d /var/tmp/hpmta-compare.XXXXXX)
mkdir -p "$work" "$published"
chmod 755 "$work"
results=$work/results.tsv
: >"$results"
: >"$work/failed.tsv"
: >"$work/missing.tsv"
: >"$work/versions.tsv"
hpload=$root/bench/HighPerfMta.LoadGen/bin/Release/net10.0/hpload
# shellcheck disable=SC2034
hpmta=$root/src/HighPerfMta.Server/bin/Release/net10.0/hpmta
sink_port=$(free_port)
# Seconds that one run may take.
limit=300
declare -A port=([direct]=$sink_port)
running=()

cleanup() {
  trap - EXIT
  trap '' INT TERM
  local mta
  for mta in "${running[@]}"; do "stop_$mta"; done
  end_group load
  kill_children
  drop_groups
  case $work in /var/tmp/hpmta-compare.*) rm -rf "$work" ;; esac
}
trap cleanup EXIT
trap 'exit 130' INT TERM

wants() { case ",$1," in *",$2,"*) return 0 ;; *) return 1 ;; esac }

prepare() {
  if wants "$tools" smtp-source; then
    need_command smtp-source postfix || { echo "compare.sh: postfix, which has smtp-source, cannot be installed: $(tail -1 "$work/apt.log")" >&2; exit 1; }
  fi
  [ $build = yes ] || return 0
  build_release "$root" "$work/build.log" || exit 1
}

# begin MTA: has it, and starts it; false when it cannot be had here.
begin() {
  local version
  "prepare_$1" || return 1
  version=$("version_$1")
  port[$1]=$(free_port)
  running+=("$1")
  "start_$1" || { missing "$1" "version $version does not start"; return 1; }
  printf '%s\t%s\n' "$1" "$version" >>"$work/versions.tsv"
}

restart() {
  [ "$1" != direct ] || return 0
  "stop_$1"
  "start_$1"
}

# count MTA SIZE MODE: larger messages take a share, and so does a connection per message where that is much slower; each run lasts about as long.
count() {
  local base=$messages own=$1_messages single=$1_single large=12
  [ "$3" = reused ] || [ -z "${!single:-}" ] || own=$single
  case $1 in direct | hpmta) ;; *) base=${peer_messages:-${!own}} large=5 ;; esac
  if [ "$2" -le 2048 ]; then echo "$base"
  elif [ "$2" -le 20480 ]; then echo $((base * 2 / 3))
  else echo $((base / large)); fi
}

# Both set started, accepted and delivered: seconds since 1970, or with hpload 0 and the two rates, which it measures itself. False when mail was lost or refused.
relay_smtp_source() {
  local mta=$1 mode=$2 size=$3 n=$4 reuse='' quit="-M $4" sink
  [ "$mode" = reused ] && reuse=-d
  # Straight into the sink, the source's last reply would be lost with it: there the source's end is the end.
  [ "$mta" = direct ] && quit=''
  # shellcheck disable=SC2086
  in_group load timeout "$limit" smtp-sink -u nobody $quit "127.0.0.1:$sink_port" 1000 2>"$work/load.log" &
  sink=$!
  await_port "$sink_port" quiet || return 1
  started=$(now)
  # shellcheck disable=SC2086
  if ! in_group load timeout "$limit" smtp-source $reuse -s "$sessions" -m "$n" -l "$size" -f load@load.invalid -t user@sink.invalid "127.0.0.1:${port[$mta]}" 2>>"$work/load.log"; then
    end_process "$sink"
    return 1
  fi
  accepted=$(now)
  if [ "$mta" = direct ]; then
    end_process "$sink"
    delivered=$accepted
    return 0
  fi
  wait "$sink" || return 1
  delivered=$(now)
}

relay_hpload() {
  local mta=$1 mode=$2 size=$3 n=$4 per=0
  [ "$mode" = single ] && per=1
  in_group load timeout "$limit" "$hpload" relay --mta "127.0.0.1:${port[$mta]}" --sink "127.0.0.1:$sink_port" --connections "$sessions" --ramp 100ms --messages-per-connection $per \
    --size "$size" --count "$n" --expect "$n" --json "$work/hpload.json" >"$work/load.log" 2>&1 || return 1
  started=0
  accepted=$(json_number accepted_per_second "$work/hpload.json")
  delivered=$(json_number delivered_per_second "$work/hpload.json")
}

# drop_leftovers MTA: a sink that ends takes its last replies with it, so a few messages stay deferred. Their retry minutes later would meet
# no sink and put the next hop to rest in the middle of another run.
drop_leftovers() { [ "$1" = direct ] || "drop_$1"; }

# run_cell MTA TOOL MODE SIZE: one run; a line in the results unless WARM is set. A cell that failed once is not run again.
run_cell() {
  local mta=$1 tool=$2 mode=$3 size=$4 n started accepted delivered ok=yes cpu0 load0 flush0 cpu1 load1 flush1
  ! grep -qxF "$mta"$'\t'"$tool"$'\t'"$mode"$'\t'"$size" "$work/failed.tsv" || return 0
  n=${WARM:-$(count "$mta" "$size" "$mode")}
  cpu0=$(cpu_of "$mta") flush0=$(flushes "$work") load0=$(cpu_of load)
  sample_memory "$mta"
  "relay_${tool//-/_}" "$mta" "$mode" "$size" "$n" || ok=no
  sleep 0.3
  end_memory
  cpu1=$(cpu_of "$mta") load1=$(cpu_of load) flush1=$(flushes "$work")
  [ $ok = yes ] || cat "$work/load.log" >&2
  drop_leftovers "$mta" || { echo "compare.sh: the queue of $mta cannot be emptied" >&2; ok=no; }
  if [ $ok = no ]; then
    echo "compare.sh: $mta with $tool, $mode, $size octets: a run failed" >&2
    [ -n "${WARM:-}" ] || printf '%s\t%s\t%s\t%s\n' "$mta" "$tool" "$mode" "$size" >>"$work/failed.tsv"
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
  tail -1 "$results" | awk -F'\t' '{ printf "  %-9s %-11s %-6s %6d: %8.0f accepted/s %8.0f delivered/s  cpu %s s/1000\n", $1, $2, $3, $4, $6, $7, $8 }' >&2
}

prepare
# shellcheck disable=SC2086
open_groups ${mtas//,/ } load
measured=()
for mta in ${mtas//,/ }; do
  if [ "$mta" = direct ] || begin "$mta"; then measured+=("$mta"); fi
done
for mta in "${measured[@]}"; do
  warm=${mta}_warm
  for tool in ${tools//,/ }; do
    [ "$mta" = direct ] || WARM=${!warm} run_cell "$mta" "$tool" reused 1024
  done
done
for size in ${sizes//,/ }; do
  for mode in ${modes//,/ }; do
    for tool in ${tools//,/ }; do
      for _ in $(seq "$runs"); do
        for mta in "${measured[@]}"; do
          run_cell "$mta" "$tool" "$mode" "$size"
        done
      done
    done
  done
done

name=compare
[ "$published" != "$here/out" ] || name=compare-$(date -u +%Y%m%dT%H%M%SZ)
report "$published/$name.json"
"$hpload" chart "$published/$name.json"
[ ! -s "$work/failed.tsv" ] || { echo "$(wc -l <"$work/failed.tsv") cells failed" >&2; exit 1; }
[ ! -s "$work/missing.tsv" ] || { cut -f1 "$work/missing.tsv" | sed 's/^/not measured: /' >&2; exit 1; }
