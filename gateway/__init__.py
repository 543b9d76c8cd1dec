"""wardgate: the gateway through which AI agents use tools.

Read ``pipeline.py`` for the way of one call, ``app.py`` for how the parts are put together, and
``model.py`` for the words both are written in.
"""

__version__ = "0.1.0"
