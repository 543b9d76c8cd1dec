"""The issuer's TLS is verified: keys from whoever answers in its place would make any token good."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from tests.identity.issuing import issuing
from tests.identity.test_tokens import Door


def certificate(folder: Path, host: str) -> tuple[ssl.SSLContext, Path]:
    """A server's TLS for a host name, and the file of the authority that vouches for it: itself."""
    key = generate_private_key(SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, SHA256())
    )
    ca_file, both = folder / f"{host}.pem", folder / f"{host}.both"
    ca_file.write_bytes(made.public_bytes(Encoding.PEM))
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    both.write_bytes(private + ca_file.read_bytes())
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(both)
    return context, ca_file


async def test_an_issuer_with_an_authority_of_its_own_is_believed_by_its_ca_file(tmp_path):
    tls, ca_file = certificate(tmp_path, "localhost")
    async with issuing(tls=tls) as idp:
        corp = Door(idp, ca_file=ca_file)
        assert (await corp.enter(idp.token())).agent == "bot"
        await corp.authenticator.close()


@pytest.mark.parametrize("trusts", ["nobody", "another"])
async def test_an_issuer_nobody_we_trust_vouches_for_gives_no_keys(tmp_path, trusts):
    tls, _ = certificate(tmp_path, "localhost")
    other = tmp_path / "other"
    other.mkdir()
    settings = {"ca_file": certificate(other, "localhost")[1]} if trusts == "another" else {}
    async with issuing(tls=tls) as idp:
        corp = Door(idp, **settings)
        refused = await corp.refused(idp.token())
        assert (refused.code, "self-signed certificate" in refused.detail) == ("issuer_unavailable", True)
        assert idp.asked == []
        await corp.authenticator.close()


async def test_a_good_certificate_of_another_host_is_not_the_issuers(tmp_path):
    tls, ca_file = certificate(tmp_path, "elsewhere.example")
    async with issuing(tls=tls) as idp:
        corp = Door(idp, ca_file=ca_file)
        refused = await corp.refused(idp.token())
        assert (refused.code, "Hostname mismatch" in refused.detail) == ("issuer_unavailable", True)
        await corp.authenticator.close()


async def test_a_ca_file_that_is_missing_or_none_is_said_to_be(tmp_path):
    (tmp_path / "empty.pem").write_text("nothing")
    async with issuing() as idp:
        for name in ("empty.pem", "missing.pem"):
            corp = Door(idp, ca_file=tmp_path / name)
            assert name in (await corp.refused(idp.token())).detail
            await corp.authenticator.close()
