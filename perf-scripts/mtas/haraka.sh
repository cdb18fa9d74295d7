# shellcheck shell=bash disable=SC2034,SC2154
# Haraka from npm, its own outbound queue, one worker a processor. Sourced by compare.sh.
haraka_messages=2000 haraka_warm=3000
haraka_pid=''

prepare_haraka() {
  local dir=$work/peers/haraka
  command -v npm >/dev/null 2>&1 || { missing haraka "there is no npm to get it with"; return 1; }
  [ ! -e "$dir/node_modules/Haraka/bin/haraka" ] || return 0
  mkdir -p "$dir"
  # Its optional packages are plugins, none of which a relay needs.
  timeout 300 npm install --prefix "$dir" --no-audit --no-fund --omit=optional Haraka >"$work/npm.log" 2>&1 \
    || { missing haraka "npm cannot install it: $(tail -1 "$work/npm.log")"; return 1; }
}

version_haraka() { echo "$(sed -n 's/^ *"version": "\(.*\)",$/\1/p' "$work/peers/haraka/node_modules/Haraka/package.json"), node $(node --version)"; }

start_haraka() {
  local dir=$work/haraka
  rm -rf "$dir"
  mkdir -p "$dir/config" "$dir/plugins" "$dir/queue"
  echo compare.invalid >"$dir/config/me"
  echo smarthost >"$dir/config/plugins"
  printf 'listen=127.0.0.1:%s\nnodes=cpus\n' "${port[haraka]}" >"$dir/config/smtp.ini"
  cp "$work/peers/haraka/node_modules/Haraka/config/connection.ini" "$dir/config/"
  printf 'enable_tls=false\n' >"$dir/config/outbound.ini"
  write_haraka_plugin >"$dir/plugins/smarthost.js"
  in_group haraka node "$work/peers/haraka/node_modules/Haraka/bin/haraka" -c "$dir" >"$dir/log" 2>&1 &
  haraka_pid=$!
  await_port "${port[haraka]}" || { tail -20 "$dir/log" >&2; return 1; }
  group_root haraka "$haraka_pid"
}

stop_haraka() {
  end_process "$haraka_pid"
  haraka_pid=''
  end_group haraka
}

# What is deferred is deleted by the plugin.
drop_haraka() {
  for _ in $(seq 50); do
    [ -n "$(find "$work/haraka/queue" -type f -print -quit)" ] || return 0
    sleep 0.1
  done
  stop_haraka
  start_haraka
}

write_haraka_plugin() {
  cat <<EOT
'use strict'
exports.hook_connect = (next, connection) => { connection.relaying = true; next() }
exports.hook_rcpt = (next) => next(OK)
exports.hook_get_mx = (next) => next(OK, { priority: 0, exchange: '127.0.0.1', port: $sink_port })
exports.hook_deferred = (next) => next(OK)
EOT
}
