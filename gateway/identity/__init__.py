"""Who calls: API keys of agents and operators, and the principals made from them."""
