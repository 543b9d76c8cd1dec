"""The same decision, whichever engine: inputs, the two engines side by side, and what differs."""
