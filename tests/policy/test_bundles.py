"""A bundle is used only as it was signed; what is odd about one is said, and nothing of it is believed."""

from __future__ import annotations

import gzip
import json
import subprocess
import tarfile
import time

import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import ConfigError
from gateway.policy import archive, read_bundle, signatures
from gateway.policy.archive import BadBundle
from gateway.policy.bundle import collect
from gateway.policy.signatures import ALGORITHMS, BadSignature, Key
from tests.policy.bundles import ALLOW, FILES, member, pair, public, signed, tarred, verified
from tests.policy.helpers import rule, write
from tests.requires import requires


def test_the_same_files_make_the_same_bytes_in_whatever_order_they_come():
    backwards = dict(reversed(FILES.items()))
    assert archive.write(FILES) == archive.write(backwards)
    assert archive.read(archive.write(FILES)).files == FILES


@given(
    st.dictionaries(
        st.text("abcdefgh", min_size=1, max_size=8).map(lambda name: f"d/{name}.rego"),
        st.binary(max_size=300),
        min_size=1,
        max_size=5,
    )
)
def test_what_is_written_is_read_as_it_was(files):
    assert archive.read(archive.write(files)).files == files


BAD_ARCHIVES = {
    "climbs out": (tarred([member("../x.rego")]), "not a plain relative name"),
    "is absolute twice": (tarred([member("//etc/x.rego")]), "not a plain relative name"),
    "has a backslash": (tarred([member("a\\b.rego")]), "not a plain relative name"),
    "a symbolic link": (tarred([member("x.rego", b"", tarfile.SYMTYPE, "/etc/passwd")]), "a link or special"),
    "a hard link": (tarred([member("x.rego", b"", tarfile.LNKTYPE, "y.rego")]), "a link or special"),
    "a device": (tarred([member("x.rego", b"", tarfile.CHRTYPE)]), "a link or special"),
    "a name twice": (tarred([member("x.rego"), member("x.rego", b"y")]), "given twice"),
    "a name twice, spelt otherwise": (tarred([member("x.rego"), member("/x.rego", b"y")]), "given twice"),
    "no gzip": (b"PK\x03\x04 something else", "not a gzipped tar"),
    "no tar": (gzip.compress(b"z" * 5000), "not a valid tar"),
    "nothing": (tarred([]), "no file"),
    "cut off": (archive.write(FILES)[:-40], "truncated"),
    "more behind": (archive.write(FILES) + archive.write(FILES), "after its end"),
    "a bomb": (gzip.compress(bytes(archive.MAX_UNPACKED + 1)), "unpacks to more than"),
    "huge": (bytes(archive.MAX_PACKED + 1), "larger than"),
    "a delta": (archive.write({"patch.json": b"{}"}), "delta"),
    "rego v0": (archive.write({".manifest": b'{"rego_version": 0}', "x.rego": ALLOW}), "Rego v0"),
    "wasm": (archive.write({"policy.wasm": b"\0asm"}), "compiled policy"),
    "a manifest that is no JSON": (archive.write({".manifest": b'{"roots": [}'}), ".manifest"),
    "roots of another type": (archive.write({".manifest": b'{"roots": "a"}'}), ".manifest"),
}  # fmt: skip


@pytest.mark.parametrize("what", BAD_ARCHIVES)
def test_an_odd_archive_is_refused_with_what_is_odd(what):
    raw, says = BAD_ARCHIVES[what]
    with pytest.raises(BadBundle, match=says):
        archive.read(raw)


@given(st.integers(0, len(archive.write(FILES)) - 1), st.integers(1, 255))
def test_a_flipped_byte_never_passes_for_what_was_signed(at, flip):
    raw = bytearray(signed())
    raw[at % len(raw)] ^= flip
    try:
        found = verified(bytes(raw))
    except BadBundle:
        return
    assert {**found.files, archive.SIGNATURES: b""} == {**FILES, archive.SIGNATURES: b""}


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_every_algorithm_signs_and_verifies(algorithm):
    verified(signed(algorithm=algorithm), algorithm)


def _resigned(**changes):
    return signed({**FILES, **changes})


def _stripped(extra=None, without=()):
    """A bundle whose files were changed after it was signed."""
    files = {**archive.read(signed()).files, **(extra or {})}
    return archive.write({name: content for name, content in files.items() if name not in without})


def _token(payload, key, algorithm, **headers):
    made = jwt.encode(payload, key, algorithm=algorithm, headers={"kid": "release", **headers})
    return archive.write({**FILES, ".signatures.json": json.dumps({"signatures": [made]}).encode()})


def _payload(**more):
    listed = [
        {"name": name, "hash": signatures.file_hash(name, content), "algorithm": "SHA-256"}
        for name, content in FILES.items()
    ]
    return {"files": listed, "iat": int(time.time()), **more}


def _private():
    return pair("ES256")[0].material


REFUSED = {
    # what is wrong: (the bundle, the code, what is said)
    "not signed": (lambda: archive.write(FILES), "unsigned", "no .signatures.json"),
    "a file changed": (lambda: _stripped({"rules/all.rego": ALLOW + b"\n# x"}), "tampered", "rules/all.rego"),
    "data changed": (lambda: _stripped({"data.json": b'{"limits": {}}'}), "tampered", "data.json"),
    "a number written otherwise": (
        lambda: _stripped({"data.json": FILES["data.json"].replace(b"1.50", b"1.5")}),
        "tampered", "data.json",
    ),
    "a file added": (lambda: _stripped({"rules/more.rego": b"package x"}), "file_extra", "rules/more.rego"),
    "a file that means nothing added": (lambda: _stripped({"README": b"x"}), "file_extra", "README"),
    "a file gone": (lambda: _stripped(without=["data.json"]), "file_missing", "data.json"),
    "expired": (lambda: signed(exp=int(time.time()) - 60), "expired", "expired"),
    "from the future": (lambda: signed(nbf=int(time.time()) + 600), "not_yet_valid", "clocks"),
    "for another scope": (lambda: signed(scope="test"), "wrong_scope", "'test'"),
    "by another key of that name": (
        lambda: _token(_payload(), pair("ES256", "other")[0].material, "ES256"), "bad_signature", "release",
    ),
    "by an unknown key": (
        lambda: _token(_payload(), _private(), "ES256", kid="else"), "unknown_key", "known are release",
    ),
    "with another algorithm": (
        lambda: _token(_payload(), pair("RS256")[0].material, "RS256"), "wrong_algorithm", "ES256",
    ),
    "with the public key as a secret": (
        lambda: _token(_payload(), b"x" * 64, "HS256"), "wrong_algorithm", "HS256",
    ),
    "with no algorithm": (lambda: _token(_payload(), None, "none"), "wrong_algorithm", "none"),
    "lists a file twice": (
        lambda: _token({"files": _payload()["files"] * 2}, _private(), "ES256"), "malformed", "twice",
    ),
    "hashes with something weak": (
        lambda: _token(
            {"files": [{**each, "algorithm": "MD5"} for each in _payload()["files"]]}, _private(), "ES256"
        ),
        "malformed", "MD5",
    ),
    "two signatures": (
        lambda: archive.write({**FILES, ".signatures.json": b'{"signatures": ["a.b.c", "a.b.c"]}'}),
        "malformed", "2 signatures",
    ),
    "a signature that is nonsense": (
        lambda: archive.write({**FILES, ".signatures.json": b'{"signatures": ["nonsense"]}'}),
        "malformed", "signatures",
    ),
    "signatures that are no JSON": (
        lambda: archive.write({**FILES, ".signatures.json": b"[[["}), "malformed", ".signatures.json",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_what_was_not_signed_exactly_so_is_refused_and_says_why(what):
    make, code, says = REFUSED[what]
    with pytest.raises(BadSignature, match=says) as refused:
        verified(make())
    assert refused.value.code == code


def test_the_order_of_keys_and_space_in_data_are_not_what_is_signed():
    files = dict(archive.read(signed()).files)
    files["data.json"] = (
        json.dumps({"limits": dict(reversed(json.loads(FILES["data.json"])["limits"].items()))}, indent=2)
        .replace("1.5,", "1.50,")
        .replace("1000.0", "1e3")
        .encode()
    )
    verified(archive.write(files))


WEAK = {
    "a short secret": Key(name="k", algorithm="HS256", material=b"short"),
    "no key": Key(name="k", algorithm="ES256", material=b"nonsense"),
    "a key of another kind": Key(name="k", algorithm="RS256", material=pair("ES256")[1].material),
    "another curve": Key(name="k", algorithm="ES384", material=pair("ES256")[1].material),
}


@pytest.mark.parametrize("what", WEAK)
def test_a_key_that_cannot_do_what_it_says_is_refused(what):
    with pytest.raises(BadBundle, match="key 'k'"):
        signatures.check_key(WEAK[what])


def test_a_bundle_is_a_policy_like_the_folder_it_was_built_from(tmp_path):
    folder = write(tmp_path / "p", {"all": ALLOW.decode(), "data.yaml": "a: {b: 1}\n"})
    built = archive.read(archive.write(collect(folder, "starter")))
    bundle = read_bundle(None, None, built, label="b")
    assert bundle.revision == read_bundle(folder, "starter").revision
    assert bundle.data == read_bundle(folder, "starter").data
    packed = tmp_path / "b.tar.gz"
    packed.write_bytes(built.raw)
    assert read_bundle(packed, None).revision == bundle.revision


def test_what_the_gate_refuses_is_named_with_the_line_in_the_bundle():
    bad = rule("bad", 'deny contains {"code": "stop"} if {\n\ttime.now_ns() > 1\n}')
    raw = archive.read(archive.write({"rules/bad.rego": bad.encode()}))
    with pytest.raises(ConfigError, match=r"b\.tar\.gz/rules/bad\.rego:\d+: 'time\.now_ns' is refused"):
        read_bundle(None, None, raw, label="b.tar.gz")


def test_a_module_outside_of_the_roots_is_refused():
    files = {**FILES, ".manifest": b'{"roots": ["other"]}'}
    with pytest.raises(ConfigError, match="outside of the manifest's roots"):
        read_bundle(None, None, archive.read(archive.write(files)), label="b")


# ------------------------------------------------------------------------------------------ real OPA


def _opa(*arguments: str, at) -> str:
    done = subprocess.run(["opa", *arguments], capture_output=True, text=True, timeout=60, cwd=at)
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stdout


@requires("opa")
@pytest.mark.parametrize("algorithm", ["ES256", "RS256", "PS384", "HS512"])
def test_opa_loads_and_verifies_what_we_build_and_sign(tmp_path, algorithm):
    folder = write(tmp_path / "p", {"all": ALLOW.decode(), "data.json": FILES["data.json"].decode()})
    raw = signed(
        {**collect(folder, "strict"), ".manifest": FILES[".manifest"]}, algorithm, scope="production"
    )
    (tmp_path / "b.tar.gz").write_bytes(raw)
    key = pair(algorithm)[1].material
    (tmp_path / "key.pub").write_bytes(key)
    given = key.decode() if algorithm.startswith("HS") else "key.pub"
    query = ("eval", "-b", "b.tar.gz", "data.wardgate.rules.all.allow")
    said = json.loads(_opa(*query, at=tmp_path))
    assert said["result"][0]["expressions"][0]["value"] == [{"code": "fine", "message": "fine"}]
    options = ("--verification-key", given, "--verification-key-id", "release", "--signing-alg", algorithm)
    _opa("build", "-b", "b.tar.gz", *options, "--scope", "production", "-o", "out.tar.gz", at=tmp_path)
    tampered = dict(archive.read(raw).files) | {"all.rego": ALLOW + b"# more\n"}
    (tmp_path / "b.tar.gz").write_bytes(archive.write(tampered))
    with pytest.raises(AssertionError, match="digest mismatch"):
        _opa("build", "-b", "b.tar.gz", *options, "--scope", "production", "-o", "out.tar.gz", at=tmp_path)


@requires("opa")
@pytest.mark.parametrize("algorithm", ["ES256", "RS512", "HS256"])
def test_what_opa_builds_and_signs_is_a_bundle_here(tmp_path, algorithm):
    folder = write(
        tmp_path / "p",
        {
            "all": ALLOW.decode(),
            "data.json": FILES["data.json"].decode(),
            "more/data.yaml": 'b: [1, true, null, "x: y", "é"]\n',
            ".manifest": '{"revision": "from opa", "roots": [""]}',
        },
    )
    private, _ = pair(algorithm)
    key = folder.parent / "key"
    key.write_bytes(private.material)
    given = private.material.decode() if algorithm.startswith("HS") else str(key)
    claims = folder.parent / "claims.json"
    claims.write_text(json.dumps({"keyid": "release", "scope": "production"}))
    options = ("--signing-key", given, "--signing-alg", algorithm, "--claims-file", str(claims))
    _opa("build", "-b", ".", *options, "-o", "../b.tar.gz", at=folder)
    read = verified((tmp_path / "b.tar.gz").read_bytes(), algorithm, "production")
    assert read.manifest.revision == "from opa"
    bundle = read_bundle(None, None, read, label="b")
    assert [each.id for each in bundle.rules] == ["all"]
    assert bundle.data["more"] == {"b": [1, True, None, "x: y", "é"]}

    # 'opa sign' of a folder, YAML as it is, served as the folder or packed by whoever ships it.
    _opa("sign", "--bundle", ".", *options, "-o", ".", at=folder)
    files = archive.read_folder(folder)
    assert archive.SIGNATURES in files and "more/data.yaml" in files
    verified(archive.write(files), algorithm, "production")


@requires("opa")
def test_numbers_and_text_are_hashed_as_opa_hashes_them(tmp_path):
    awkward = (
        '{"a": 1.0, "b": 1e3, "c": -0, "d": 12345678901234567890123, "e": 1E-9,'
        ' "f": "\\u2028\\u0001\\"\\\\/<>&",'
        ' "g": "\\ud83d\\ude00", "h": [[], {}, ""], "\\u00e9": 1, "z\\u0000": 2, "A": 3, "a.b": 0.10}'
    )
    folder = write(tmp_path / "p", {"data.json": awkward, "all": ALLOW.decode()})
    key = tmp_path / "key"
    key.write_bytes(pair("ES256")[0].material)
    _opa("sign", "--bundle", ".", "--signing-key", str(key), "--signing-alg", "ES256", "-o", ".", at=folder)
    # No key id anywhere: with one key, that one is meant.
    signatures.verify(archive.read(archive.write(archive.read_folder(folder))), public(), now_s=time.time())
