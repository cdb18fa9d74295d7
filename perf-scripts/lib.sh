# shellcheck shell=bash disable=SC2154
# Measuring for the scripts of this directory: processor time of a process tree, memory, flushes, medians. Sourced, not run.

now() { echo "$EPOCHREALTIME"; }

# Of numbers, one a line; - of none.
median() { sort -g | awk '{ v[NR] = $1 } END { print NR == 0 ? "-" : NR % 2 ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2 }'; }

# fetch URL: what is there, by whichever program there is.
fetch() { if command -v curl >/dev/null 2>&1; then curl -fsS -m 30 "$1"; else wget -q -T 30 -O - "$1"; fi; }

# build_release ROOT LOG: server and harness; when that fails, the end of the log goes to standard error.
build_release() {
  (cd "$1" && timeout 600 dotnet build -c Release -v q src/HighPerfMta.Server && timeout 600 dotnet build -c Release -v q bench/HighPerfMta.LoadGen) >"$2" 2>&1 || { tail -20 "$2" >&2; return 1; }
}

free_port() {
  local port
  while :; do
    port=$((20000 + RANDOM % 12000))
    (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null || { echo $port; return; }
  done
}

# await_port PORT [quiet [SECONDS]]: quiet looks at the kernel's list instead of connecting, for servers that count connections.
await_port() {
  local hex
  hex=$(printf ':%04X ' "$1")
  for _ in $(seq $((${3:-30} * 10))); do
    if awk -v hex="$hex" '$4 == "0A" && index($2 " ", hex) { found = 1 } END { exit !found }' < <(cat /proc/net/tcp /proc/net/tcp6 2>/dev/null); then
      return 0
    fi
    sleep 0.1
  done
  echo "nothing listens on port $1 after ${3:-30} s" >&2
  return 1
}

# Groups: a control group each where one can be made (v2, or the cpuacct controller of v1), which also holds the time of dead children;
# otherwise the process tree under a root, from /proc, with the time of children that were waited for.
group_kind='' group_base=''
open_groups() {
  local name
  if [ -f /sys/fs/cgroup/cgroup.controllers ] && mkdir "/sys/fs/cgroup/hpmta-perf-$$" 2>/dev/null; then
    group_kind=v2 group_base=/sys/fs/cgroup/hpmta-perf-$$
  elif [ -d /sys/fs/cgroup/cpuacct ] && mkdir "/sys/fs/cgroup/cpuacct/hpmta-perf-$$" 2>/dev/null; then
    group_kind=v1 group_base=/sys/fs/cgroup/cpuacct/hpmta-perf-$$
  else
    group_kind=proc group_base=$(mktemp -d)
  fi
  for name in "$@"; do mkdir -p "$group_base/$name"; done
}

drop_groups() {
  [ -n "$group_base" ] || return 0
  if [ "$group_kind" = proc ]; then rm -rf "$group_base"; return 0; fi
  for _ in $(seq 20); do
    find "$group_base" -depth -type d -exec rmdir {} + 2>/dev/null || true
    [ -d "$group_base" ] || return 0
    sleep 0.1
  done
}

# in_group NAME COMMAND...; with & behind it, $! is the command itself.
in_group() {
  local name=$1 file=cgroup.procs
  shift
  [ "$group_kind" != proc ] || file=roots
  # shellcheck disable=SC2016
  set -- bash -c 'echo $$ >>"$1"; shift; exec "$@"' - "$group_base/$name/$file" "$@"
  [ "$BASHPID" = $$ ] || exec "$@"
  "$@"
}

# group_root NAME PID: the root of the tree of what made itself a daemon; only needed without control groups.
group_root() { [ "$group_kind" != proc ] || echo "$2" >"$group_base/$1/roots"; }

members() {
  [ -d "$group_base/$1" ] || return 0
  if [ "$group_kind" != proc ]; then
    cat "$group_base/$1/cgroup.procs"
    return 0
  fi
  [ -f "$group_base/$1/roots" ] || return 0
  ps -e -o pid=,ppid= | awk -v roots="$(tr '\n' ' ' <"$group_base/$1/roots")" '
    BEGIN { split(roots, r, " "); for (i in r) in_tree[r[i]] = 1 }
    { parent[$1] = $2 }
    END { do { grown = 0; for (p in parent) if (!(p in in_tree) && parent[p] in in_tree) { in_tree[p] = 1; grown = 1 } } while (grown)
          for (p in in_tree) if (p in parent) print p }'
}

# cpu_of NAME: seconds so far.
cpu_of() {
  case $group_kind in
    v2) awk '$1 == "usage_usec" { print $2 / 1e6 }' "$group_base/$1/cpu.stat" 2>/dev/null || echo 0 ;;
    v1) awk '{ print $1 / 1e9 }' "$group_base/$1/cpuacct.usage" 2>/dev/null || echo 0 ;;
    *) for pid in $(members "$1"); do sed 's/.*) //' "/proc/$pid/stat" 2>/dev/null || true; done \
        | awk -v tick="$(getconf CLK_TCK)" '{ t += $12 + $13 + $14 + $15 } END { print t / tick }' ;;
  esac
}

# Memory: the sum of the proportional set sizes of a group, sampled twice a second.
sampler=''
sample_memory() {
  echo 0 >"$pss_file"
  (
    peak=0
    while :; do
      rollups=()
      for pid in $(members "$1"); do rollups+=("/proc/$pid/smaps_rollup"); done
      sum=$(cat "${rollups[@]}" </dev/null 2>/dev/null | awk '/^Pss:/ { sum += $2 } END { print sum + 0 }' || true)
      if [ "${sum:-0}" -gt "$peak" ]; then
        peak=$sum
        echo "$peak" >"$pss_file"
      fi
      sleep 0.5
    done
  ) &
  sampler=$!
}
end_memory() {
  [ -z "$sampler" ] || { kill "$sampler" && wait "$sampler"; } 2>/dev/null || true
  sampler=''
}
peak_memory() { cat "$pss_file"; }
pss_file=$(mktemp)

# flushes PATH: flush requests the disk under the path has completed; of the whole machine, so run on a quiet one. -1: unknown.
flushes() {
  local device
  device=$(df --output=source "$1" | tail -1)
  device=$(basename "$(readlink -f "$device")")
  [ -f "/sys/class/block/$device/stat" ] || { echo -1; return; }
  [ -d "/sys/block/$device" ] || device=$(basename "$(dirname "$(readlink -f "/sys/class/block/$device")")")
  awk 'NF >= 16 { print $16; found = 1 } END { if (!found) print -1 }' "/sys/block/$device/stat"
}

# json_number KEY FILE: the last number under the key, 0 without one; the harness writes a line a key.
json_number() { awk -v key="\"$1\":" '$1 == key { gsub(",", "", $2); value = $2; found = 1 } END { print found ? value : 0 }' "$2"; }

# end_process PID: SIGTERM, and after ten seconds SIGKILL.
end_process() {
  [ -n "$1" ] || return 0
  kill "$1" 2>/dev/null || true
  for _ in $(seq 100); do kill -0 "$1" 2>/dev/null || break; sleep 0.1; done
  kill -9 "$1" 2>/dev/null || true
  wait "$1" 2>/dev/null || true
}

# end_children NAME PID: what a group has besides its root, such as deliveries under way.
end_children() {
  local pid
  for pid in $(members "$1"); do [ "$pid" = "$2" ] || kill -9 "$pid" 2>/dev/null || true; done
}

# end_group NAME: whatever outlived its root.
end_group() { end_children "$1" none; }

kill_children() {
  local pids
  pids=$(jobs -p)
  # shellcheck disable=SC2086
  [ -z "$pids" ] || kill $pids 2>/dev/null || true
  rm -f "$pss_file"
}

machine() {
  echo "$(nproc) processors, $(awk -F': ' '/model name/ { print $2; exit }' /proc/cpuinfo), $(awk '/MemTotal/ { printf "%.0f", $2 / 1048576 }' /proc/meminfo) GiB, Linux $(uname -r), times by $group_kind"
}

# json_object FILE: lines of a name, a tab and a value as a JSON object of strings.
json_object() { awk -F'\t' '{ gsub(/["\\]/, ""); printf "%s\"%s\": \"%s\"", (NR > 1 ? ", " : ""), $1, $2 }' "$1"; }

# report JSON: medians of $results as a table with ratios; with what failed and what was missing as JSON.
report() {
  local machine
  machine=$(machine)
  echo
  echo "machine: $machine"
  {
    printf '{\n  "kind": "compare",\n  "date": "%s",\n  "machine": "%s",\n  "sessions": %d,\n' "$(date -u +%Y-%m-%dT%H:%M:%SZ)" "$machine" "$sessions"
    printf '  "versions": {%s},\n  "missing": {%s},\n' "$(json_object "$work/versions.tsv")" "$(json_object "$work/missing.tsv")"
    printf '  "failed": ['
    awk -F'\t' '{ printf "%s\n    {\"mta\": \"%s\", \"source\": \"%s\", \"connections\": \"%s\", \"octets\": %d}", (NR > 1 ? "," : ""), $1, $2, $3, $4 }' "$work/failed.tsv"
    printf '],\n  "medians": ['
  } >"$1"
  awk -F'\t' -v json="$1" '
    function median(key, column,   i, n, v, m, t, j) {
      n = runs[key]
      for (i = 1; i <= n; i++) v[i] = value[key, i, column]
      if (v[1] == "-") return "-"
      for (i = 2; i <= n; i++) { t = v[i] + 0; for (j = i - 1; j > 0 && v[j] + 0 > t; j--) v[j + 1] = v[j]; v[j + 1] = t }
      return n % 2 ? v[(n + 1) / 2] : (v[n / 2] + v[n / 2 + 1]) / 2
    }
    function show(x, format) { return x == "-" ? "-" : sprintf(format, x) }
    function field(name, x) { return "\"" name "\": " (x == "-" ? "null" : sprintf("%.4f", x)) }
    {
      key = $2 FS $3 FS $4 FS $1
      cell = $2 FS $3 FS $4
      if (!(cell in seen)) { seen[cell] = 1; cells[++cell_count] = cell }
      if (!($1 in known)) { known[$1] = 1; mtas[++mta_count] = $1 }
      runs[key]++
      for (c = 5; c <= 11; c++) value[key, runs[key], c] = $c
    }
    END {
      printf "%-11s %-6s %7s  %-9s %10s %11s %9s %10s %8s %9s\n", "source", "conn.", "octets", "MTA", "accepted/s", "delivered/s", "cpu s/1k", "load s/1k", "PSS MiB", "flush/msg"
      for (i = 1; i <= cell_count; i++) {
        split(cells[i], part, FS)
        for (m = 1; m <= mta_count; m++) {
          key = cells[i] FS mtas[m]
          if (!(key in runs)) continue
          for (c = 6; c <= 11; c++) med[key, c] = median(key, c)
          printf "%-11s %-6s %7d  %-9s %10.0f %11.0f %9s %10s %8s %9s\n", part[1], part[2], part[3], mtas[m], med[key, 6], med[key, 7], show(med[key, 8], "%.3f"), show(med[key, 9], "%.3f"), show(med[key, 10], "%.0f"), show(med[key, 11], "%.3f")
          printf "%s\n    {\"source\": \"%s\", \"connections\": \"%s\", \"octets\": %d, \"mta\": \"%s\", \"runs\": %d, %s, %s, %s, %s, %s, %s}", comma, part[1], part[2], part[3], mtas[m], runs[key], field("accepted_per_second", med[key, 6]), field("delivered_per_second", med[key, 7]), field("cpu_seconds_per_1000", med[key, 8]), field("load_cpu_seconds_per_1000", med[key, 9]), field("peak_pss_mib", med[key, 10]), field("flushes_per_message", med[key, 11]) >> json
          comma = ","
        }
        us = cells[i] FS "hpmta"; top = cells[i] FS "direct"
        if (!(us in runs)) continue
        for (m = 1; m <= mta_count; m++) {
          they = cells[i] FS mtas[m]
          if (mtas[m] != "hpmta" && mtas[m] != "direct" && they in runs)
            printf "%27s  hpmta/%s: %.1f x delivered, 1/%.1f of the cpu\n", "", mtas[m], med[us, 7] / med[they, 7], med[they, 8] / med[us, 8]
        }
        if (top in runs)
          printf "%27s  hpmta/direct: %.0f %% delivered, cpu %.2f x the pair alone\n", "", 100 * med[us, 7] / med[top, 7], med[us, 8] / med[top, 9]
      }
      printf "\n  ]\n}\n" >> json
    }' "$results"
  echo "json: $1"
}
