"""A replicated log: Raft as in D. Ongaro, "Consensus: Bridging Theory and Practice" (2014), whose § numbers these are.

`log` holds entries, `quorum` counts who has them, `leader` replicates, `replica` is the core that has the roles.
"""
