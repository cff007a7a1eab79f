"""One process role each: a composition of cores that routes messages and events between them. Still pure."""
