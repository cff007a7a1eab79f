"""The only input and output: sockets, threads, files. Drivers perform the effects of nodes; they decide nothing."""
