"""The words every layer shares: effects, nodes, timers, identities, errors, limits, configuration. Imports nothing."""
