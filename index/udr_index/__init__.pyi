from .bench import (
    Measurement as Measurement, bench as bench, exact_values as exact_values, measure as measure,
    settings_to_try as settings_to_try, tune as tune,
)
from .engines import EngineMeasurement as EngineMeasurement, bench_engines as bench_engines
