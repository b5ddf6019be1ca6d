#!/bin/sh
# Shows what a wrapper script is started with, and starts it.
echo "wrapped $# with $1"
export WRAPPED=yes
exec "$@"
