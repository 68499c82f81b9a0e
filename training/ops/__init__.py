"""Operators that several rooms share: transforms, filters, precision and gathering between processes."""
