"""Keeping one bundle in one OPA: handed over at the start, looked after, and taken away in the end."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, Final

import msgspec

from gateway.policy.module import Bundle
from gateway.policy.opa_modules import Pushed, pushed
from gateway.policy.opa_target import EvaluationError, OpaFault, Target

if TYPE_CHECKING:
    from gateway.policy.opa_client import OpaClient

logger = logging.getLogger("wardgate.policy")

_LOOK_S: Final = 1.0
"""How often OPA is looked at. One that was started again has nothing, and is given everything again."""
_PROBE_S: Final = 5.0
_REMOVE_S: Final = 60.0
_PAUSE_S: Final = 0.1
"""Least time between two hand-overs, so that a stream of refused calls is not a stream of uploads."""


class OpaLink:
    """What is pushed, the connections, and whether OPA has it. Lives on one event loop."""

    def __init__(self, bundle: Bundle, target: Target) -> None:
        self.pushed: Pushed = pushed(bundle)
        self.target = target
        self.engine = "opa"  # with its version once it has answered
        self.trouble = "OPA has not been asked yet"  # why it does not decide now; "" when it does
        self._client: OpaClient | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._lost = asyncio.Event()

    async def open(self) -> None:
        """Connect and hand the bundle over, once; raises ``OpaFault`` when that fails."""
        try:
            await self._renew(push=True)
        except OpaFault as error:
            self.trouble = str(error)
            raise

    def keep(self) -> None:
        """From now on see to it that OPA has the bundle."""
        self._keeper = asyncio.create_task(self._keep())

    async def close(self, *, remove: bool) -> None:
        """``remove`` takes the bundle out of OPA, when nobody else decides by this revision."""
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)
        client, self._client = self._client, None
        if client is None:
            return
        try:
            if remove:
                async with asyncio.timeout(_REMOVE_S):
                    await client.remove(self.pushed)
        except (OpaFault, TimeoutError) as error:
            logger.warning(
                "a policy that is no longer used stays in OPA: %s", str(error) or "no answer in time"
            )
        finally:
            await client.close_connection()

    async def ask(self, body: bytes, traceparent: str = "") -> bytes:
        """Put one question to the entry; raises ``EvaluationError`` or ``OpaFault``."""
        if self._client is None:
            raise OpaFault("policy_unavailable", "there is no connection to OPA")
        return await self._client.ask(self.pushed.answer, body, traceparent)

    def lost(self) -> None:
        """An answer showed that OPA does not have what it was given."""
        self._lost.set()

    async def _keep(self) -> None:
        while True:
            lost = await self._awaited()
            try:
                if lost or not await self._held():
                    await self._renew(push=True)
                    logger.warning("OPA had lost the policy and has been given it again")
            except OpaFault as error:
                if str(error) != self.trouble:
                    logger.error("OPA cannot decide: %s", error)
                self.trouble = str(error)
            await asyncio.sleep(_PAUSE_S)

    async def _awaited(self) -> bool:
        """Whether somebody found the bundle gone before it was time to look."""
        try:
            async with asyncio.timeout(_LOOK_S):
                await self._lost.wait()
        except TimeoutError:
            return False
        self._lost.clear()
        return True

    async def _held(self) -> bool:
        """Whether OPA has the bundle; raises ``OpaFault`` when it cannot be asked."""
        try:
            async with asyncio.timeout(_LOOK_S):
                return await self._renew(push=False)
        except TimeoutError as error:
            raise OpaFault("policy_timeout", f"no answer within {_LOOK_S} s") from error

    async def _renew(self, *, push: bool) -> bool:
        if self._client is None:
            from gateway.policy.opa_client import OpaClient  # takes half a second to import

            client = OpaClient(self.target)
            await client.start()
            self._client = client
        self._client.read_token()  # a rotated one is used within a second
        try:
            if push:
                await self._client.push(self.pushed)
            about = _about(await self._client.ask(self.pushed.about, b"{}"))
        except EvaluationError as error:
            raise OpaFault("policy_error", str(error)) from error
        if about.get("revision") != self.pushed.revision:
            # OPA said it took everything; something removes it again, or another OPA answers.
            if push:
                raise OpaFault("policy_mismatch", "OPA does not hold what it was given")
            return False
        self.engine = f"opa {about.get('version')}"
        self.trouble = ""
        return True


async def probe(target: Target) -> None:
    """Whether OPA answers questions of ours, without giving it anything; raises ``OpaFault``."""
    from gateway.policy.opa_client import OpaClient

    client = OpaClient(target)
    await client.start()
    try:
        async with asyncio.timeout(_PROBE_S):
            client.read_token()
            _about(await client.ask("wardgate/probe", b"{}"))
    except TimeoutError as error:
        raise OpaFault("policy_timeout", f"{target}: no answer within {_PROBE_S} s") from error
    except EvaluationError as error:
        raise OpaFault("policy_error", str(error)) from error
    finally:
        await client.close_connection()


def _about(body: bytes) -> dict[str, Any]:
    try:
        said = msgspec.json.decode(body, type=dict[str, Any])
    except (msgspec.DecodeError, RecursionError) as error:
        raise OpaFault("policy_bad_shape", "what answers is no OPA") from error
    result = said.get("result")
    return result if isinstance(result, dict) else {}
