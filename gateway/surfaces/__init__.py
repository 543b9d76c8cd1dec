"""Where calls and operators come in."""
