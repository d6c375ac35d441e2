"""Keeping sessions warm: policy, one session's life, the pool."""
