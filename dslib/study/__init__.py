"""Many runs: grids, curves, tables and the bench."""
