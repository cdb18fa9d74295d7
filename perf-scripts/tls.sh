#!/usr/bin/env bash
# TLS on both sides of hpmta and of Postfix, in turns: mail relayed, processor time of it, and handshakes.
# See README.md in this directory for what is measured.
set -euo pipefail

usage() {
  cat <<'EOT'
usage: tls.sh [options]
  --quick            one short run of each: a minute; proves the script
  --runs N           runs of each, medians are kept (default 3)
  --messages N       messages a run for hpmta, a tenth of them for Postfix (default 20000; with a connection for each a fifth)
  --seconds N        the time of a run of handshakes (default 8)
  --clients N        clients that make handshakes at once (default 4)
  --mtas LIST        direct,hpmta,postfix (default all; direct is the source straight into the sink)
  --work DIR         where queues and logs are put (default: a new directory in /var/tmp)
  --no-build         use the Release build that is there
EOT
}

here=$(cd "$(dirname "$0")" && pwd)
root=$(dirname "$here")
runs=3 messages=20000 seconds=8 clients=4 mtas=direct,hpmta,postfix work='' build=yes warm_share=2
hpload=$root/bench/HighPerfMta.LoadGen/bin/Release/net10.0/hpload
# shellcheck disable=SC2034
hpmta=$root/src/HighPerfMta.Server/bin/Release/net10.0/hpmta
while [ $# -gt 0 ]; do
  case $1 in
    --quick) runs=1 messages=5000 seconds=3 warm_share=1; shift ;;
    --runs) runs=$2; shift 2 ;;
    --messages) messages=$2; shift 2 ;;
    --seconds) seconds=$2; shift 2 ;;
    --clients) clients=$2; shift 2 ;;
    --mtas) mtas=$2; shift 2 ;;
    --work) work=$2; shift 2 ;;
    --no-build) build=no; shift ;;
    -h | --help) usage; exit 0 ;;
    *) usage >&2; exit 2 ;;
  esac
done
[ "$(id -u)" = 0 ] || { echo "tls.sh: needs root, for Postfix's master" >&2; exit 2; }

# shellcheck source=lib.sh
. "$here/lib.sh"
# shellcheck source=mtas/packages.sh
. "$here/mtas/packages.sh"
for mta in ${mtas//,/ }; do
  # shellcheck source=/dev/null
  [ "$mta" = direct ] || . "$here/mtas/$mta.sh"
done
[ -n "$work" ] || work=$(mktemp -d /var/tmp/hpmta-tls.XXXXXX)
mkdir -p "$work"
chmod 755 "$work"
: >"$work/missing.tsv"
sink_port=$(free_port)
# What the files of mtas/ read: the certificate, and a port of TLS from the first octet on.
tls_pem=$work/tls.pem
declare -A port=([direct]=$sink_port) tls_port
running=()

cleanup() {
  trap - EXIT
  trap '' INT TERM
  local mta
  for mta in "${running[@]}"; do "stop_$mta"; done
  end_group load
  kill_children
  drop_groups
  case $work in /var/tmp/hpmta-tls.*) rm -rf "$work" ;; esac
}
trap cleanup EXIT
trap 'exit 130' INT TERM

fail() { echo "tls.sh: $*" >&2; exit 1; }
say() { printf '%(%H:%M:%S)T %s\n' -1 "$*" >&2; }

prepare() {
  need_command openssl openssl || fail "openssl cannot be installed: $(tail -1 "$work/apt.log")"
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 -subj /CN=compare.invalid -keyout "$work/key.pem" -out "$work/cert.pem" 2>"$work/openssl.log" \
    || { cat "$work/openssl.log" >&2; fail "no certificate can be made"; }
  cat "$work/key.pem" "$work/cert.pem" >"$tls_pem"
  chmod 600 "$tls_pem" "$work/key.pem"
  [ $build = yes ] || return 0
  build_release "$root" "$work/build.log" || fail "the build failed"
}

begin() {
  "prepare_$1" || fail "$1 cannot be had"
  port[$1]=$(free_port) tls_port[$1]=$(free_port)
  running+=("$1")
  "start_$1" || fail "$1 does not start"
}

# relay MTA MODE COUNT FILE: delivered a second, and processor seconds per 1,000 messages; FILE -: not kept.
relay() {
  local mta=$1 per=0 n=$3 cpu
  [ "$2" = reused ] || per=1
  cpu=$(cpu_of "$mta")
  in_group load timeout 300 "$hpload" relay --mta "127.0.0.1:${port[$mta]}" --sink "127.0.0.1:$sink_port" --connections 20 --ramp 100ms --messages-per-connection $per \
    --tls starttls --sink-tls starttls --size 1KiB --count "$n" --expect "$n" --json "$work/relay.json" >"$work/relay.log" 2>&1 || { cat "$work/relay.log" >&2; fail "$mta lost or refused mail"; }
  cpu=$(awk -v a="$cpu" -v b="$(cpu_of "$mta")" -v n="$n" 'BEGIN { print (b - a) * 1000 / n }')
  [ "$mta" = direct ] || "drop_$mta" || fail "the queue of $mta cannot be emptied"
  [ "$4" = - ] || echo "$(json_number delivered_per_second "$work/relay.json") $cpu" >>"$4"
}

# handshakes MTA FILE: full handshakes of TLS 1.3 a second, and processor seconds per 1,000.
handshakes() {
  local mta=$1 cpu pids=() i began
  cpu=$(cpu_of "$mta") began=$(now)
  for i in $(seq "$clients"); do
    in_group load timeout $((seconds + 20)) openssl s_time -connect "127.0.0.1:${tls_port[$mta]}" -tls1_3 -new -time "$seconds" >"$work/s_time.$i" 2>&1 &
    pids+=($!)
  done
  for i in "${pids[@]}"; do wait "$i" || { cat "$work"/s_time.* >&2; fail "handshakes with $mta fail"; }; done
  cat "$work"/s_time.* | awk -v began="$began" -v ended="$(now)" -v a="$cpu" -v b="$(cpu_of "$mta")" '
    / real seconds/ { n += $1 }
    END { if (n == 0) exit 1; print n / (ended - began), (b - a) * 1000 / n }' >>"$2" || fail "openssl s_time told of no connection"
}

median_of() { awk -v c="$2" '{ print $c }' "$1" | sort -g | awk '{ v[NR] = $1 } END { print NR % 2 ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2 }'; }

prepare
# shellcheck disable=SC2086
open_groups ${mtas//,/ } load
for mta in ${mtas//,/ }; do [ "$mta" = direct ] || begin "$mta"; done
share() { if [ "$1" = postfix ]; then echo $(($2 / 10)); else echo "$2"; fi; }

say "warming up"
for mta in ${mtas//,/ }; do [ "$mta" = direct ] || relay "$mta" reused "$(share "$mta" $((messages * warm_share)))" -; done
for run in $(seq "$runs"); do
  say "run $run of $runs"
  for mta in ${mtas//,/ }; do
    relay "$mta" reused "$(share "$mta" "$messages")" "$work/reused.$mta"
    relay "$mta" single "$(share "$mta" $((messages / 5)))" "$work/single.$mta"
    [ "$mta" = direct ] || handshakes "$mta" "$work/handshakes.$mta"
  done
done

printf '%-12s %-8s %12s %14s\n' what MTA 'a second' 'cpu s/1,000'
for what in reused single handshakes; do
  for mta in ${mtas//,/ }; do
    [ -f "$work/$what.$mta" ] || continue
    cpu=$(median_of "$work/$what.$mta" 2)
    [ "$mta" != direct ] || cpu=-
    LC_ALL=C awk -v what=$what -v mta="$mta" -v rate="$(median_of "$work/$what.$mta" 1)" -v cpu="$cpu" 'BEGIN { printf "%-12s %-8s %12.0f %14s\n", what, mta, rate, (cpu == "-" ? cpu : sprintf("%.3f", cpu)) }'
  done
done
echo "machine: $(machine)"
