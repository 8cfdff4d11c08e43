"""The engine without a kernel: commands carried out on a host that was looked at.

What-if needs no planner of its own. The engine that would do the work does it, on a model: the
host is a value, the store is in memory, and what comes of it is the answer.
"""
