"""A volunteer compute grid: peers without roles share ranges of work and prove that all of it was done."""

__version__ = "0.1.0"
