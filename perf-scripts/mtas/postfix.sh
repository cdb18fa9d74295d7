# shellcheck shell=bash disable=SC2034,SC2154
# Postfix, a private instance: own configuration, queue and data directories, own port, log to a file, nothing of the system's touched.
# Sourced by compare.sh, and by tls.sh, which sets tls_pem and tls_port.
postfix_messages=3000 postfix_warm=500

prepare_postfix() {
  need_command postfix postfix || { missing postfix "the package cannot be installed: $(tail -1 "$work/apt.log")"; return 1; }
}

version_postfix() { postconf -d -h mail_version; }

start_postfix() {
  local dir=$work/postfix
  rm -rf "$dir"
  mkdir -p "$dir/etc" "$dir/queue" "$dir/data"
  chmod 755 "$dir" "$dir/etc" "$dir/queue"
  chown postfix "$dir/data"
  write_main_cf "$dir" >"$dir/etc/main.cf"
  write_master_cf >"$dir/etc/master.cf"
  in_group postfix timeout 60 postfix -c "$dir/etc" start >"$dir/start.log" 2>&1 || { cat "$dir/start.log" >&2; return 1; }
  await_port "${port[postfix]}" || { cat "$dir/start.log" "$dir/maillog" >&2; return 1; }
  group_root postfix "$(tr -d ' ' <"$dir/queue/pid/master.pid")"
}

stop_postfix() {
  [ -f "$work/postfix/queue/pid/master.pid" ] || return 0
  timeout 30 postfix -c "$work/postfix/etc" stop >/dev/null 2>&1 || true
}

drop_postfix() { timeout 30 postsuper -c "$work/postfix/etc" -d ALL >/dev/null 2>&1; }

write_main_cf() {
  cat <<EOT
compatibility_level = 3.6
queue_directory = $1/queue
data_directory = $1/data
daemon_directory = $(postconf -d -h daemon_directory)
maillog_file = $1/maillog
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
$([ -n "${tls_pem:-}" ] || echo "smtpd_tls_security_level = none")
$([ -n "${tls_pem:-}" ] || echo "smtp_tls_security_level = none")
local_header_rewrite_clients =
default_process_limit = 100
in_flow_delay = 0
qmgr_message_active_limit = 20000
initial_destination_concurrency = 20
default_destination_concurrency_limit = 50
smtp_connection_cache_destinations = [127.0.0.1]:$sink_port, 127.0.0.1
smtp_connection_reuse_count_limit = 0
message_size_limit = 104857600
EOT
  [ -z "${tls_pem:-}" ] || write_tls_cf "$1"
}

# TLS_README: sessions are cached on both sides, and connections to the next hop are kept under TLS too.
write_tls_cf() {
  cat <<EOT
smtpd_tls_security_level = may
smtpd_tls_chain_files = $tls_pem
smtp_tls_security_level = may
smtp_tls_connection_reuse = yes
smtpd_tls_session_cache_database = btree:$1/data/smtpd_scache
smtp_tls_session_cache_database = btree:$1/data/smtp_scache
EOT
}

write_master_cf() {
  cat <<EOT
127.0.0.1:${port[postfix]} inet n - n - - smtpd
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
EOT
  [ -z "${tls_pem:-}" ] || cat <<EOT
127.0.0.1:${tls_port[postfix]} inet n - n - - smtpd -o smtpd_tls_wrappermode=yes
tlsproxy unix - - n - 0 tlsproxy
EOT
}
