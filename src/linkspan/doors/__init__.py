"""Ways in from elsewhere: Docker's remote driver, CNI, an OCI hook, Compose.

Planned; nothing is here yet.
"""
