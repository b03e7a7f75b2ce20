"""A registry of hot-pixel masks for astronomical cameras."""

__version__ = "0.1.0"
