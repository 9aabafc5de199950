"""Placeholder until its component lands."""
