# shellcheck shell=bash disable=SC2034,SC2154
# Exim, Debian's exim4-daemon-light unpacked, without privileges (chapter "Security considerations" of its specification). Sourced by compare.sh.
# Every message is delivered at once (smtp_accept_queue_per_connection = 0, Q0009 of its wiki), the spool is split, nobody is looked up.
exim_messages=600 exim_warm=200
exim_pid=''

prepare_exim() { can_be_private exim && unpack exim exim4-daemon-light exim4-base; }

version_exim() { unpacked_version exim exim4-daemon-light; }

start_exim() {
  local dir=$work/exim
  rm -rf "$dir"
  mkdir -p "$dir/spool" "$dir/log"
  own_users "$dir" Debian-exim
  chown 64980:64980 "$dir/spool" "$dir/log"
  write_exim_conf "$dir" >"$dir/exim.conf"
  in_private exim "$dir" /etc/passwd /etc/group -- setpriv --reuid Debian-exim --regid Debian-exim --clear-groups \
    "$work/peers/exim/root/usr/sbin/exim4" -C "$dir/exim.conf" -bdf -q30m >"$dir/out" 2>&1 &
  exim_pid=$!
  await_port "${port[exim]}" || { cat "$dir/out" "$dir"/log/* >&2; return 1; }
  group_root exim "$exim_pid"
}

stop_exim() {
  end_process "$exim_pid"
  exim_pid=''
  end_group exim
}

# The hints of what failed go too: they would put the next hop to rest in the next run.
drop_exim() {
  end_children exim "$exim_pid"
  find "$work/exim/spool/input" "$work/exim/spool/msglog" "$work/exim/spool/db" -type f -delete
}

write_exim_conf() {
  cat <<EOT
primary_hostname = compare.invalid
exim_path = $work/peers/exim/root/usr/sbin/exim4
never_users =
deliver_drop_privilege = true
keep_environment =
spool_directory = $1/spool
log_file_path = $1/log/%slog
pid_file_path = $1/spool/exim.pid
local_interfaces = 127.0.0.1.${port[exim]}
domainlist local_domains =
host_lookup =
rfc1413_hosts =
tls_advertise_hosts =
message_size_limit = 100M
split_spool_directory = true
smtp_accept_max = 0
smtp_accept_max_per_connection = 0
smtp_accept_queue_per_connection = 0
smtp_connect_backlog = 1000
acl_smtp_rcpt = relay

begin acl

relay:
  accept hosts = 127.0.0.0/8

begin routers

smarthost:
  driver = manualroute
  transport = smarthost
  route_list = * 127.0.0.1
  self = send

begin transports

smarthost:
  driver = smtp
  port = $sink_port
  hosts_avoid_tls = *

begin retry

* * F,2h,15m
EOT
}
