#!/bin/sh
# What a node on this machine needs besides selvedge: says what is missing, asks
# if there is somebody to ask, installs it.
#
#   needs.sh [PROGRAM:PACKAGE...]    and these
set -eu
PATH=$PATH:/usr/sbin:/sbin
missing=""
for need in containerd:containerd runc:runc busybox:busybox-static iptables:iptables ip:iproute2 mosquitto:mosquitto mosquitto_pub:mosquitto-clients "$@"; do
  command -v "${need%%:*}" >/dev/null || missing="$missing ${need##*:}"
done
[ -x /usr/lib/cni/bridge ] || [ -x /opt/cni/bin/bridge ] || missing="$missing containernetworking-plugins"
[ -n "$missing" ] || exit 0
echo "missing:$missing"
[ "$(id -u)" = 0 ] || { echo "they are installed as root: apt-get install$missing" >&2; exit 1; }
if [ -t 0 ]; then
  printf 'install with apt-get? [Y/n] '
  read -r answer
  case $answer in n* | N*) exit 1 ;; esac
fi
apt-get update -qq
DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >/dev/null
