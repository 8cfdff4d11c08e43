"""The page.

Planned; nothing is here yet.
"""
