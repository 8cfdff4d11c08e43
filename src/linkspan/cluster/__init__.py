"""What many hosts share: state in etcd, membership by Serf.

Planned; nothing is here yet.
"""
