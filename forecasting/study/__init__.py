"""Many runs: which, one after another or side by side, and their report."""
