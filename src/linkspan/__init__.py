"""linkspan: a container network engine for Linux that can explain itself."""

__version__ = "0.1.0"
