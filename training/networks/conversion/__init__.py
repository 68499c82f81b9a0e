"""Translate the key names of published checkpoints into ours: one file per trunk."""
