"""``wardgate demo``: the real gateway in front of real tool servers, driven by the official MCP client.

office.py    our example server, with consequences that can be counted
story.py     who calls what, and what must become of it
world.py     the processes: gateway, office, git server
stage.py     plays the story and shows it
earned.py    an agent that earns a tier and loses it, on a compressed clock
"""
