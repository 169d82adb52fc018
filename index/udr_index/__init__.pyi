from .bench import (
    Measured as Measured, bench as bench, efforts as efforts, exact_values as exact_values, measure as measure,
    not_reached as not_reached, tune as tune,
)
