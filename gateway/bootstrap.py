"""Build the control process: the only place where plugs meet sockets."""
