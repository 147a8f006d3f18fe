"""Files that run without torch, and the proof that they detect what the checkpoint detects."""
