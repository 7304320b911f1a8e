"""Searching a recipe's options: the largest artifact within the budget, and studies."""
