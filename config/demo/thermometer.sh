#!/bin/sh
# A thermometer with a heater behind it: reports its temperature every second and
# takes the setpoint it is told. Speaks to the broker on RUN/mqtt.sock.
#
#   thermometer.sh wait RUN    returns once the broker answers
#   thermometer.sh run RUN     measures in the background; RUN/{sensor,wish}.pid
set -eu
run=$2 device='$hw/events/device/default/thermometer'

publish() { mosquitto_pub --unix "$run/mqtt.sock" -q 1 -t "$device/twin/update" -m "$1"; }

measure() {
  tenths=180
  while :; do
    setpoint=$(sed -n 's/.*"delta":{[^}]*"setpoint":"\([0-9]*\)".*/\1/p' "$run/delta" | tail -n 1)
    aim=$((${setpoint:-18} * 10))
    tenths=$((tenths + (aim - tenths) / 5 + $(date +%s) % 3 - 1))
    reported=""
    [ -z "$setpoint" ] || reported=",\"setpoint\":{\"actual\":{\"value\":\"$setpoint\"}}"
    publish "{\"event_id\":\"\",\"twin\":{\"temperature\":{\"actual\":{\"value\":\"$((tenths / 10)).$((tenths % 10))\"},\"metadata\":{\"type\":\"float\"}}$reported}}" || true
    sleep 1
  done
}

case $1 in
  wait)
    tries=0
    until mosquitto_pub --unix "$run/mqtt.sock" -t selvedge/demo -n 2>/dev/null; do
      tries=$((tries + 1))
      [ $tries -lt 50 ] || { cat "$run/mosquitto.log" >&2; exit 1; }
      sleep 0.1
    done
    ;;
  run)
    mosquitto_sub --unix "$run/mqtt.sock" -q 1 -t "$device/twin/update/delta" >"$run/delta" 2>/dev/null &
    echo $! >"$run/wish.pid"
    measure >/dev/null 2>&1 &
    echo $! >"$run/sensor.pid"
    ;;
esac
