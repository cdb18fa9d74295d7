# shellcheck shell=bash disable=SC2034,SC2154
# hpmta as it is by default, its queue durable. Sourced by compare.sh, and by tls.sh, which sets tls_pem and tls_port.
# The runtime goes on compiling what is hot for a hundred thousand messages; a server runs for months.
hpmta_warm=120000
hpmta_pid=''

prepare_hpmta() { :; }

version_hpmta() { "$hpmta" version | head -1; }

start_hpmta() {
  local dir=$work/hpmta
  rm -rf "$dir"
  mkdir -p "$dir"
  cat >"$dir/hpmta.toml" <<EOT
hostname = "compare.invalid"
data_dir = "$dir/data"

[[listener]]
address = "127.0.0.1:${port[hpmta]}"
profile = "relay"

[queue]
sync = true

[admin]
http = ""

[[route]]
domains = ["*"]
to = "smtp://127.0.0.1:$sink_port"
EOT
  [ -z "${tls_pem:-}" ] || cat >>"$dir/hpmta.toml" <<EOT

[[listener]]
address = "127.0.0.1:${tls_port[hpmta]}"
profile = "relay"
tls = "implicit"

[tls]
certificates = [ { cert = "$tls_pem", key = "$tls_pem" } ]
EOT
  in_group hpmta "$hpmta" serve --config "$dir/hpmta.toml" >"$dir/log" 2>&1 &
  hpmta_pid=$!
  await_port "${port[hpmta]}" || { tail -20 "$dir/log" >&2; return 1; }
  group_root hpmta "$hpmta_pid"
}

stop_hpmta() {
  end_process "$hpmta_pid"
  hpmta_pid=''
}

drop_hpmta() {
  local left
  left=$(timeout 30 "$hpmta" queue count --config "$work/hpmta/hpmta.toml" | awk '$1 == "total" { print $2 }') || return 1
  [ "$left" = 0 ] || timeout 30 "$hpmta" queue drop --all --config "$work/hpmta/hpmta.toml" >/dev/null
}
