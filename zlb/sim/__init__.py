"""The other world: virtual time, a modelled network and CPU, crash points, all drawn from one seed. No real clock."""
