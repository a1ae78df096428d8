"""Many runs: planned, launched and watched."""
