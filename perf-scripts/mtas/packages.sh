# shellcheck shell=bash disable=SC2034,SC2154
# Peers that are not on the machine: their packages' files are unpacked under the work directory and run from there. Nothing is installed but the
# libraries that they depend on, so what the machine has for its own mail stays what it is. Sourced, not run.

# missing NAME REASON: said at the end, and kept in the JSON; the run goes on without it.
missing() {
  printf '%s\t%s\n' "$1" "$2" >>"$work/missing.tsv"
  echo "compare.sh: without $1: $2" >&2
}

apt() { DEBIAN_FRONTEND=noninteractive timeout 300 apt-get "$@" >>"$work/apt.log" 2>&1; }

# apt_or_update ARGUMENTS: once more with new lists when it fails.
apt_or_update() { apt "$@" || { apt update && apt "$@"; }; }

# need_command COMMAND PACKAGE
need_command() {
  command -v "$1" >/dev/null 2>&1 || apt_or_update install -y -q --no-install-recommends "$2"
}

# unpack NAME PACKAGE...: the files of Debian packages under $work/peers/NAME/root; without their setuid bits, for nothing here needs them.
unpack() {
  local name=$1 dir=$work/peers/$1 file libraries
  shift
  [ ! -e "$dir/unpacked" ] || return 0
  command -v apt-get >/dev/null 2>&1 || { missing "$name" "there is no apt-get to get $* with"; return 1; }
  mkdir -p "$dir/deb" "$dir/root"
  (cd "$dir/deb" && apt_or_update download "$@") || { missing "$name" "the packages $* cannot be downloaded: $(tail -1 "$work/apt.log")"; return 1; }
  for file in "$dir"/deb/*.deb; do dpkg -x "$file" "$dir/root"; done
  find "$dir/root" -type f -perm /6000 -exec chmod ug-s {} +
  libraries=$(for file in "$dir"/deb/*.deb; do dpkg-deb -f "$file" Depends; echo; done | tr ',' '\n' | sed -n 's/^ *\(lib[^ (|:]*\).*/\1/p' | sort -u)
  # shellcheck disable=SC2086
  apt_or_update install -y -q --no-install-recommends $libraries || { missing "$name" "its libraries cannot be installed: $(tail -1 "$work/apt.log")"; return 1; }
  touch "$dir/unpacked"
}

# unpacked_version NAME PACKAGE
unpacked_version() { dpkg-deb -f "$(find "$work/peers/$1/deb" -name "$2_*.deb" | head -1)" Version; }

# own_users DIR USER...: DIR/etc/passwd and DIR/etc/group, the machine's with users of the package's besides.
own_users() {
  local dir=$1 id=64980 user
  shift
  mkdir -p "$dir/etc"
  cp /etc/passwd /etc/group "$dir/etc/"
  for user in "$@"; do
    echo "$user:x:$id:$id::/nonexistent:/usr/sbin/nologin" >>"$dir/etc/passwd"
    echo "$user:x:$id:" >>"$dir/etc/group"
    id=$((id + 1))
  done
}

can_be_private() { unshare -m --propagation private true 2>/dev/null || { missing "$1" "no mount namespace can be made here"; return 1; }; }

# in_private NAME DIR PATH... -- COMMAND...: in the group NAME and a mount namespace where each PATH is that of DIR; with & behind it, $! is the command itself.
# For what is fixed when a peer is built: its users, its queue and its socket.
in_private() {
  local name=$1
  shift
  # shellcheck disable=SC2016
  in_group "$name" unshare -m --propagation private bash -c '
    set -e
    dir=$1
    shift
    while [ "$1" != -- ]; do
      mount --bind "$dir$1" "$1"
      shift
    done
    shift
    exec "$@"' - "$@"
}
