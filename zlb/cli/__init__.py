"""Commands: parse what a person says, run nodes with drivers, say what came of it."""
