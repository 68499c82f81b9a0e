"""Parts of Capsule-Forensics."""
