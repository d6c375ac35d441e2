"""The version, which every room can import."""

__version__ = "0.2.0"
