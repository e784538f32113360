# Ships an image: keeps what was there before, puts the new one in its place, and looks whether it is well.
set -eu
mkdir -p "$PLACE"
if [ -f "$PLACE/image" ]; then cp "$PLACE/image" "$PLACE/before"; fi
cp out/image "$PLACE/image"
echo "shipped $1"
# The second version forgot its key.
if [ "$VERSION" = v2 ]; then
    echo "panic: missing env STRIPE_KEY (main.rs:88)" >&2
    exit 1
fi
