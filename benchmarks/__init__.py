"""Benchmarks: linkspan beside its peers, in one run, in private network namespaces.

Run them with `scripts/bench`. `measure` holds what was measured and the goals it is judged by,
`report` prints it; `stage`, `client`, `floor`, `cni` and `docker` are the contenders and the
places they work in; every other module is one subject, a function `run(lab, size)`.
"""
