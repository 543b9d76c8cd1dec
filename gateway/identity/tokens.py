"""From a bearer token (JWT) to the principal it stands for.

    apart → issuer → key → signature → claims → revoked? → agent → scopes

A token that was believed is remembered by the SHA-256 of all of it until it ends, so an agent that calls
often pays for its signature once. What is remembered goes when keys, revocations or configuration change,
and is not used while the issuer's keys are too old. Every failure raises ``Unauthenticated``.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from hashlib import sha256
from typing import Final, NamedTuple

from gateway.config import AgentConfig
from gateway.config_identity import IssuerConfig
from gateway.config_upstream import ModeName
from gateway.errors import Unauthenticated
from gateway.identity import claims, jws
from gateway.identity.jwks import Key
from gateway.identity.keyring import Keyring
from gateway.identity.principals import principal_of
from gateway.identity.revocations import Revocations
from gateway.model import Principal

REMEMBERED: Final = 10_000


class Issuer(NamedTuple):
    """A configured issuer and its keys."""

    name: str
    config: IssuerConfig
    keyring: Keyring


class Lacking(Unauthenticated):
    """A good token without a required scope, of an issuer whose clients can ask for more."""

    def __init__(self, issuer: Issuer, needed: tuple[str, ...], missing: tuple[str, ...]) -> None:
        super().__init__("insufficient_scope", f"{issuer.name}: lacks {' '.join(missing)}")
        self.issuer = issuer
        self.needed = needed


class _Believed(NamedTuple):
    principal: Principal
    until_ns: int
    keyring: Keyring
    key: Key


class Tokens:
    """Verifies tokens. ``load`` swaps everything they are judged by."""

    def __init__(self, now_ns: Callable[[], int]) -> None:
        self._now_ns = now_ns
        self._issuers: dict[str, Issuer] = {}  # by their ``iss``
        self._agents: Mapping[str, AgentConfig] = {}
        self._mode: ModeName = "enforce"
        self._revocations = Revocations()
        self._believed: OrderedDict[bytes, _Believed] = OrderedDict()

    def __len__(self) -> int:
        return len(self._believed)

    def load(
        self,
        issuers: Mapping[str, Issuer],
        agents: Mapping[str, AgentConfig],
        mode: ModeName,
        revocations: Revocations,
    ) -> None:
        """Judge by these from now on; ``issuers`` by their ``iss``."""
        self._issuers = dict(issuers)
        self._agents, self._mode, self._revocations = agents, mode, revocations
        self._believed.clear()

    def keys_changed(self, keyring: Keyring) -> None:
        """Forget what was believed because of a key that is no longer there."""
        kept = [
            (name, each)
            for name, each in self._believed.items()
            if each.keyring is not keyring or each.key in keyring.set.keys
        ]
        self._believed = OrderedDict(kept)

    def remembered(self, token: bytes) -> Principal | None:
        """The principal of a token that was believed before and still is."""
        # Keyed by all of it: under a part, one token could be taken for another.
        name = sha256(token).digest()
        known = self._believed.get(name)
        if known is None:
            return None
        now = self._now_ns()
        if now >= known.until_ns or now >= known.keyring.usable_until_ns:
            del self._believed[name]
            return None
        self._believed.move_to_end(name)
        return known.principal

    async def verify(self, token: bytes) -> Principal:
        """The principal of a token, verified now; waits only where its key has to be fetched."""
        parts = jws.take_apart(token)
        issuer = self._issuer(parts)
        self._allowed(issuer, parts)  # before anything is fetched for it
        if not issuer.keyring.knows(parts.kid, parts.algorithm):
            await issuer.keyring.refresh()
            issuer = self._issuer(parts)  # a reload may have come in between
        # From here on nothing is awaited: what is judged by is what is in force when it is remembered.
        key = self._proven(issuer, parts)
        meaning = claims.check(issuer.name, issuer.config, parts, self._now_ns())
        agent = self._agents.get(meaning.agent)
        # A token of an agent nobody owns, or of another tenant, has no authority.
        if agent is None or agent.tenant != issuer.config.tenant:
            raise Unauthenticated("unknown_agent", f"{issuer.name}: {meaning.agent[:80]!r} is not configured")
        revoked = self._revocations.refuses(
            issuer=issuer.name, jti=meaning.jti, sub=meaning.sub, tenant=agent.tenant, agent=meaning.agent,
            issued_ns=meaning.issued_ns,
        )  # fmt: skip
        if revoked:
            raise Unauthenticated("revoked_credential", f"{issuer.name}: {revoked}")
        if meaning.missing and issuer.config.step_up:
            had = (scope for scope in meaning.scopes if scope in issuer.config.scopes)
            needed = tuple(dict.fromkeys((*issuer.config.required_scopes, *had)))
            raise Lacking(issuer, needed, meaning.missing)
        principal = principal_of(
            meaning.agent,
            agent,
            self._mode,
            # The same for all tokens of this agent from this issuer: a new one continues its sessions.
            f"oidc:{issuer.name}/{meaning.agent}",
            subject=meaning.subject,
            chain=meaning.chain,
            more_labels=meaning.labels,
            missing_scopes=meaning.missing,
            mandate_json=meaning.mandate_json,
            build=meaning.build,
        )
        self._believed[sha256(token).digest()] = _Believed(principal, meaning.until_ns, issuer.keyring, key)
        if len(self._believed) > REMEMBERED:
            self._believed.popitem(last=False)
        return principal

    def advertises(self, token: bytes) -> bool:
        """Whether a token that was refused came from an issuer whose clients sign in by OAuth.

        Of a token nobody here issued nothing is known, so its sender is told where to get one.
        """
        try:
            return self._issuer(jws.take_apart(token)).config.advertise
        except Unauthenticated as unknown:
            return unknown.code == "wrong_issuer"

    def _issuer(self, parts: jws.Jws) -> Issuer:
        iss = parts.claims.get("iss")
        issuer = self._issuers.get(iss) if isinstance(iss, str) else None
        if issuer is None:
            raise Unauthenticated(
                "wrong_issuer", f"iss is {iss[:120]!r}" if isinstance(iss, str) else "no iss"
            )
        return issuer

    @staticmethod
    def _allowed(issuer: Issuer, parts: jws.Jws) -> None:
        # The algorithm is the issuer's and the key's choice, never the token's.
        if parts.algorithm not in issuer.config.algorithms:
            raise jws.malformed(f"alg {parts.algorithm[:20]!r} is not of the issuer's 'algorithms'")

    def _proven(self, issuer: Issuer, parts: jws.Jws) -> Key:
        """The key that made the signature."""
        self._allowed(issuer, parts)
        key = issuer.keyring.find(parts.kid, parts.algorithm)
        if key is None:
            kid = "none" if parts.kid is None else repr(parts.kid[:80])
            raise jws.malformed(f"kid {kid} with {parts.algorithm} is no key that {issuer.name} publishes")
        try:
            signed = key.signed(parts.algorithm, parts.signed, parts.signature)
        except Exception as error:  # whatever the library chokes on is no proof
            raise jws.malformed(f"signature: {type(error).__name__}") from error
        if not signed:
            raise jws.malformed("the signature does not match")
        return key
