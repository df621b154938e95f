"""The commands of `embedge`, one module each. Each imports its dependencies when it runs, so `--help` is quick."""
