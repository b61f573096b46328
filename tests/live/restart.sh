#!/bin/sh
# Ends the live tests' containerd and starts it again after a while.
exec "$(dirname "$0")/../../config/demo/containerd.sh" restart "$SELVEDGE_LIVE/containerd" selvedge1 10.90
