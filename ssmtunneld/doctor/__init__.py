"""Walks a tunnel's way, hop by hop, and says where it is broken and how to mend it."""
