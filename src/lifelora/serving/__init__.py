"""The live service: what answers requests out of a finished run, and what keeps events. Stands above runs, below commands."""
