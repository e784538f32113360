# Puts back what was there before.
set -eu
mv "$PLACE/before" "$PLACE/image"
echo "back to $(cat "$PLACE/image")"
