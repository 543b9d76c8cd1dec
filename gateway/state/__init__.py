"""Hot facts: what a rule may need to know about the work so far, at a cost that does not grow with it."""
