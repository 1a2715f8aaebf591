"""Measuring: selectivity in the drawn world, and the field's benchmarks on photographs."""
