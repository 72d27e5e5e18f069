"""The method in two dimensions, where the pairwise loss can be seen (chapter 02b)."""
