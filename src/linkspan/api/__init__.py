"""HTTP on a unix socket: operations, what they take and show, and the daemon that serves them."""
