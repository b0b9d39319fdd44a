"""How much visitors may store: by visitor, by address and day, and never the room of clinics."""

from dataclasses import dataclass

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.core.disk_full import storage_full
from app.core.errors import StorageFull, TooManyRequests
from app.core.rate_limit import RateLimit, RateLimits
from app.core.storage import Storage
from app.screenings.tables import Screening
from ml.texts import msg

_DAY_S = 24 * 3600
_KB = 1000


class QuotaExceeded(StorageFull):
    """A visitor has stored as much as one may."""

    title = msg("Your storage is full")
    default_code = "quota"


@dataclass(frozen=True, slots=True)
class StorageQuota:
    """Limits of stored images.

    Attributes:
        min_free_bytes: free room below which nobody's image is accepted.
        reserve_bytes: further room that visitors leave to clinics.
        visitor_bytes: stored images of one visitor.
        by_address: kilobytes stored of visitors, by address and day.
    """

    min_free_bytes: int
    reserve_bytes: int
    visitor_bytes: int
    by_address: RateLimit

    @classmethod
    def of(
        cls, limits: RateLimits, *, min_free_mb: int, reserve_mb: int, visitor_mb: int
    ) -> "StorageQuota":
        """The limits, with counts in the application's storage of limits."""
        return cls(
            min_free_mb * 1_000_000,
            reserve_mb * 1_000_000,
            visitor_mb * 1_000_000,
            limits.limit("stored-kilobytes", visitor_mb * 1_000_000 // _KB, _DAY_S),
        )

    def require_room(self, storage: Storage, visitor_address: str | None) -> None:
        """Refuse an image before it is decoded.

        Args:
            storage: of images.
            visitor_address: None for an image of a clinic or a signed-in user.

        Raises:
            StorageFull: the disk has too little room.
            TooManyRequests: this address has stored enough for today.
        """
        free = storage.free_bytes()
        if free < self.min_free_bytes:
            raise storage_full()
        if visitor_address is None:
            return
        if free < self.min_free_bytes + self.reserve_bytes:
            raise StorageFull(
                msg(
                    "The server keeps its last disk space for clinics. Delete screenings that "
                    "you no longer need, or ask the server's operator to free some space, and "
                    "try again."
                )
            )
        if not self.by_address.allows(visitor_address):
            raise self._enough_for_today(visitor_address)

    def require_visitors_room(self, session: Session, visitor: str) -> None:
        """Refuse an image of a visitor who has stored enough.

        Raises:
            QuotaExceeded: it would be more than a visitor may store.
        """
        query = select(func.sum(Screening.stored_bytes)).where(Screening.visitor_id == visitor)
        if (session.scalar(query) or 0) >= self.visitor_bytes:
            raise QuotaExceeded(
                msg(
                    "You have stored %(visitor_bytes)s MB, which is the limit. Delete screenings "
                    "that you no longer need, and try again.",
                    visitor_bytes=self.visitor_bytes // 1000000,
                )
            )

    def count(self, visitor_address: str, stored_bytes: int) -> None:
        """Count an image that is about to be stored.

        Raises:
            TooManyRequests: this address has stored enough for today; nothing was counted.
        """
        kilobytes = -(-stored_bytes // _KB)
        if not self.by_address.take(visitor_address, kilobytes):
            self.by_address.give_back(visitor_address, kilobytes)
            raise self._enough_for_today(visitor_address)

    def _enough_for_today(self, address: str) -> TooManyRequests:
        usage = self.by_address.usage(address, allowed=False)
        return TooManyRequests(
            msg(
                "Visitors from your network have stored %(visitor_bytes)s MB today, which is "
                "the limit. Try again tomorrow, or sign in.",
                visitor_bytes=self.visitor_bytes // 1000000,
            ),
            code="quota",
            headers={"Retry-After": str(max(1, usage.reset_s))},
        )
