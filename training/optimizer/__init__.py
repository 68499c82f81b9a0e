"""Optimisers, schedules, sharpness-aware minimisation and weight averages."""
