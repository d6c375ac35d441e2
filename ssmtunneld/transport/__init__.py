"""Channels on real websockets, and the byte streams inside them."""
