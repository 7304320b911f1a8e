"""Recipes: what a user may say of quantizers and codecs, from TOML to objects."""
