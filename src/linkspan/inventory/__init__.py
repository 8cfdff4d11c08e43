"""Which container is which namespace: Docker, Podman, containerd, CNI, processes.

Planned; nothing is here yet.
"""
