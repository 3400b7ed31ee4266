"""Many runs: grouping, protocols, tables."""
