"""Trust: what an agent may do unattended in a domain, earned from outcomes the gateway itself verified.

evidence.py    one outcome and its weight; which tier it counts for
beta.py        the bound: a quantile of the Beta distribution, without any library
account.py     all that is known of one agent in one domain, as decayed sums
caps.py        what holds a tier down for one call
falls.py       what a trip, an incident or failures do: at once, and automatically
promotion.py   whether a person may sign a higher tier
reach.py       which thresholds can be reached at all, and by how much work a day
explain.py     the one sentence
simulate.py    the same outcomes under other parameters
settings.py    every number

Pure: no clock, no storage, no network. ``gateway/trustbook.py`` brings the two together.
"""
