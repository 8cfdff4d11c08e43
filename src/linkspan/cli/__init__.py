"""The command line. Commands live in modules of their own, loaded when one is called."""

from linkspan.cli.group import cli, main

__all__ = ["cli", "main"]
