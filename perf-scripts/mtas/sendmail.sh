# shellcheck shell=bash disable=SC2034,SC2154
# sendmail, Debian's sendmail-bin unpacked, its configuration made from its own m4 files. Sourced by compare.sh.
# DeliveryMode and SuperSafe are interactive, which belong together: the reply to DATA waits for the next hop's, and the queue is written and flushed only when
# that was no 250, so that nothing acknowledged is ever in memory alone. In the background, the default, each message costs a process of its own.
sendmail_messages=3000 sendmail_single=500 sendmail_warm=200
sendmail_pid=''

prepare_sendmail() {
  can_be_private sendmail || return 1
  need_command m4 m4 || { missing sendmail "m4, which makes its configuration, cannot be installed"; return 1; }
  unpack sendmail sendmail-bin sendmail-base sendmail-cf
}

version_sendmail() { unpacked_version sendmail sendmail-bin; }

start_sendmail() {
  local dir=$work/sendmail cf=$work/peers/sendmail/root/usr/share/sendmail/cf/
  rm -rf "$dir"
  mkdir -p "$dir/queue"/q{1..8}
  chmod 700 "$dir/queue"/q*
  printf 'hosts files\naliases files\npasswd files\n' >"$dir/service.switch"
  : >"$dir/local-host-names"
  write_sendmail_mc "$dir" >"$dir/sendmail.mc"
  m4 "-D_CF_DIR_=$cf" "${cf}m4/cf.m4" "$dir/sendmail.mc" >"$dir/sendmail.cf" 2>"$dir/m4.log" || { cat "$dir/m4.log" >&2; return 1; }
  # It sleeps for a minute at the start unless the machine's own name has a domain.
  mkdir -p "$dir/etc"
  echo "127.0.0.1 localhost compare.invalid $(uname -n).invalid $(uname -n)" >"$dir/etc/hosts"
  in_private sendmail "$dir" /etc/hosts -- "$work/peers/sendmail/root/usr/libexec/sendmail/sendmail" -C "$dir/sendmail.cf" -bD -q30m >"$dir/log" 2>&1 &
  sendmail_pid=$!
  await_port "${port[sendmail]}" || { tail -20 "$dir/log" >&2; return 1; }
  group_root sendmail "$sendmail_pid"
}

stop_sendmail() {
  end_process "$sendmail_pid"
  sendmail_pid=''
  end_group sendmail
}

drop_sendmail() {
  end_children sendmail "$sendmail_pid"
  find "$work/sendmail/queue" -type f -delete
}

write_sendmail_mc() {
  cat <<EOT
divert(0)dnl
VERSIONID(\`compare')dnl
OSTYPE(\`linux')dnl
define(\`confCF_VERSION', \`compare')dnl
define(\`confDOMAIN_NAME', \`compare.invalid')dnl
define(\`confCW_FILE', \`$1/local-host-names')dnl
define(\`confSERVICE_SWITCH_FILE', \`$1/service.switch')dnl
define(\`confPID_FILE', \`$1/sendmail.pid')dnl
define(\`STATUS_FILE', \`$1/statistics')dnl
define(\`QUEUE_DIR', \`$1/queue/q*')dnl
define(\`ALIAS_FILE', \`')dnl
define(\`confDELIVERY_MODE', \`interactive')dnl
define(\`confSAFE_QUEUE', \`interactive')dnl
define(\`confTO_IDENT', \`0')dnl
define(\`confQUEUE_LA', \`10000')dnl
define(\`confREFUSE_LA', \`10000')dnl
define(\`confDELAY_LA', \`0')dnl
define(\`confDONT_PROBE_INTERFACES', \`true')dnl
define(\`confMAX_MESSAGE_SIZE', \`104857600')dnl
define(\`SMART_HOST', \`relay:[127.0.0.1]')dnl
define(\`RELAY_MAILER_ARGS', \`TCP \$h $sink_port')dnl
FEATURE(\`nocanonify')dnl
FEATURE(\`accept_unresolvable_domains')dnl
FEATURE(\`promiscuous_relay')dnl
FEATURE(\`no_default_msa')dnl
DAEMON_OPTIONS(\`Family=inet, Addr=127.0.0.1, Port=${port[sendmail]}, Name=MTA, Listen=1000')dnl
MAILER(\`smtp')dnl
EOT
}
