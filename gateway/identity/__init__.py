"""Who calls: API keys, tokens, certificates that a proxy checked, and the principals made from them."""
