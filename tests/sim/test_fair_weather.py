"""Fair weather is not rare: in it `grid.run` demands that nothing is leased twice, which is how it sees broken promises
that recovery would mend.
"""

from zlb.sim.weather import draw


def test_fair_weather_is_not_rare() -> None:
    assert sum(draw(seed).fair for seed in range(300)) > 40
