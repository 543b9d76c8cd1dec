"""The ``Trust`` port over book, ranks and intake."""

from __future__ import annotations

from gateway.standing.book import Book
from gateway.standing.intake import Intake
from gateway.standing.ranks import Ranks
from gateway.trust.settings import Settings


class TrustKeeper:
    """Implements ``ports.Trust``. All methods run on the event loop's thread."""

    def __init__(self, book: Book, ranks: Ranks, intake: Intake) -> None:
        self.book, self.ranks, self.intake = book, ranks, intake
        self.ask = ranks.ask
        self.ended = intake.ended

    def configured(self, settings: Settings, *, enabled: bool) -> None:
        """Take new settings; tiers that were signed stay, and are judged by the new numbers."""
        self.book.configured(settings, enabled=enabled)
        self.ranks.configured()
