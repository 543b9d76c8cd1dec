"""Trust brought together with calls, clock and storage.

ranks.py    how far an agent may go with a call: looked up, on the way of the call
intake.py   what calls, verifications, reviewers and breakers say of an agent, as evidence
book.py     the accounts: evidence taken in, tiers that fall, all of it kept through a restart
desk.py     what people do: look, sign, vouch, demote, report an incident
keeper.py   the port of the pipeline over all of these
"""
