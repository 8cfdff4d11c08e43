"""Random worlds of namespaces, made in the kernel, asked for real, and compared with the walk."""
