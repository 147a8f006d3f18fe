"""Plans a training from the data: a fingerprint, a budget, rules, and the config they lead to."""
