# The tests of a suite. What is written to MC_OUTPUT later stages can use; `summary` is said in the channel.
set -eu
sleep 0.3
echo "$1: all tests of $VERSION pass"
echo "summary=12 passed" >>"$MC_OUTPUT"
