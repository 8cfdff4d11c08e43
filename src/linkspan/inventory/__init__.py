"""Which container is which namespace: Docker, Podman, containerd, CNI, linkspan, processes.

Reads only: sockets of daemons that answer, and the files and processes that they leave behind
when they do not. `taking.take_inventory` asks all of them; `naming` decides on one name each.
"""
