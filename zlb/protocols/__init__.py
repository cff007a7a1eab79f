"""Pure cores, one protocol a module: they get events and return effects, and know neither clock nor socket."""
