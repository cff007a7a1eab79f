"""Studies: each asks one question of the simulator and sets a published, or calculated, answer beside ours."""
