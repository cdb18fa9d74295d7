# shellcheck shell=bash disable=SC2034,SC2154
# OpenSMTPD, Debian's package unpacked. Its queue, socket and users are fixed when it is built, so it runs in a mount namespace of its own, where
# those paths are directories of this run. Sourced by compare.sh.
# What keeps it from a relay's load to one next hop is raised: mails per session (100 by default, either way), connections to one host and route (10, 5),
# and the pauses between connections. The limits of "mta" are in its grammar and not in its manual.
opensmtpd_messages=3000 opensmtpd_single=300 opensmtpd_warm=300
opensmtpd_pid=''

prepare_opensmtpd() { can_be_private opensmtpd && unpack opensmtpd opensmtpd; }

version_opensmtpd() { unpacked_version opensmtpd opensmtpd; }

start_opensmtpd() {
  local dir=$work/opensmtpd
  rm -rf "$dir"
  mkdir -p "$dir/run" "$dir/var/spool" "$dir/var/lib/opensmtpd/empty"
  chmod -R 755 "$dir"
  own_users "$dir" opensmtpd opensmtpq
  write_smtpd_conf >"$dir/smtpd.conf"
  in_private opensmtpd "$dir" /etc/passwd /etc/group /var/spool /var/lib /run -- \
    "$work/peers/opensmtpd/root/usr/sbin/smtpd" -F -f "$dir/smtpd.conf" >"$dir/log" 2>&1 &
  opensmtpd_pid=$!
  await_port "${port[opensmtpd]}" || { tail -20 "$dir/log" >&2; return 1; }
  group_root opensmtpd "$opensmtpd_pid"
}

stop_opensmtpd() {
  end_process "$opensmtpd_pid"
  opensmtpd_pid=''
  end_group opensmtpd
}

# A next hop that was put to rest is known to the process alone: with something left it starts anew.
drop_opensmtpd() {
  [ -n "$(find "$work/opensmtpd/var/spool/smtpd/queue" -type f -print -quit)" ] || return 0
  stop_opensmtpd
  start_opensmtpd
}

write_smtpd_conf() {
  cat <<EOT
smtp limit max-mails 1000000
smtp max-message-size "100M"
mta limit max-conn-per-host 20
mta limit max-conn-per-route 20
mta limit conn-delay-relay 0
mta limit conn-delay-route 0
mta limit reconn-delay-route 0
mta limit session-mail-max 1000000
listen on 127.0.0.1 port ${port[opensmtpd]} hostname compare.invalid
action "smarthost" relay host "smtp+notls://127.0.0.1:$sink_port"
match from any for any action "smarthost"
EOT
}
