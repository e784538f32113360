# The "image": a file with the version in it.
set -eu
mkdir -p out
echo "shop $VERSION" >out/image
echo "image=shop:$VERSION" >>"$MC_OUTPUT"
