"""Words that mean something here, as data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal

Kind = Literal["recipient", "iban", "url", "host", "path", "sql", "command", "id", "text"]
KINDS: Final[tuple[Kind, ...]] = ("recipient", "iban", "url", "host", "path", "sql", "command", "id", "text")


def _set(text: str) -> frozenset[str]:
    return frozenset(text.split())


_COMMON: Final = """
    the and for are but not you all any can had her was one our out has him his how its may new now old
    see two way who did get let put say she too use this that with have from they will what when your
    make like time just know take into year some them than then look only come over also back after work
    first well even want because these give most please thanks thank hello dear regards best email
    emails mail mails message messages send sent reply forward read write file files document documents
    folder report reports invoice invoices bill bills payment payments pay paid account accounts bank
    money amount transfer transaction transactions user users name names list lists item items data info
    information update updates delete remove create add open close check find search show summary
    summarize summarise meeting meetings calendar event events date dates today tomorrow yesterday week
    month monday tuesday wednesday thursday friday saturday sunday january february march april june
    july august september october november december day days hour hours minute minutes number numbers
    page pages website site web link links url address addresses phone contact contacts client clients
    customer customers team teams member members manager company office project projects task tasks
    issue issues ticket tickets order orders price prices total book booking hotel flight restaurant
    city about above again before being below between both could does doing down during each few further
    here more much must need other should such there those through under until very were where which
    while whom would true false null none yes text type image resource content application json html
    plain http https www com org net status result results error errors success value values key keys
    title subject body sender recipient recipients participants default test tests admin root home
    everyone anyone someone public private shared
"""
STOP: Final = frozenset(_COMMON.encode().split())
"""Words so common that meeting one proves nothing, neither that the user named it nor that a result did."""

FILES: Final = _set("""
    txt md pdf doc docx xls xlsx csv tsv ppt pptx odt json yaml yml xml html htm css js ts jsx tsx py rb
    rs go java c h cc cpp cs php sh bash zsh ps1 bat sql db sqlite log ini cfg conf toml lock env png
    jpg jpeg gif svg webp mp3 mp4 wav avi mov zip gz tar tgz bz2 xz 7z exe dll so bin iso img eml ics
    vcf pem key crt bak tmp ipynb rst tex rtf parquet
""")
"""What ends a file name, and not a host name, when a name has dots."""

_NAMES: Final[Mapping[Kind, frozenset[str]]] = {
    "recipient": _set("""
        to cc bcc recipient recipients participant participants attendee attendees invitee invitees
        guest guests email emails mail phone mobile msisdn channel channels user users username
        usernames member members assignee assignees reviewer reviewers payee payees beneficiary receiver
        receivers contact contacts handle room chat audience followers group groups subscriber
        subscribers
    """),
    "iban": _set("""
        iban account accounts bic swift
    """),
    "url": _set("""
        url urls uri uris link links href webhook endpoint callback redirect website
    """),
    "host": _set("""
        host hosts hostname domain domains server ip fqdn
    """),
    "path": _set("""
        path paths file files filename filenames filepath dir directory folder dest destination src
        output outfile target
    """),
    "id": _set("""
        id ids uuid guid
    """),
    "sql": _set("""
        sql query statement
    """),
    "command": _set("""
        command commands cmd script shell exec
    """),
}
BY_NAME: Final[Mapping[str, Kind]] = {name: kind for kind, names in _NAMES.items() for name in names}
"""What an argument of this name is."""

VAGUE: Final = _set("dest destination output src target server")
"""Names that mean different things in different tools: the shape of the value comes first."""

MODIFIERS: Final = _set("""
    address addresses email id ids list name names number path text url value
""")
"""``file_name`` is a file and ``channel_id`` a channel."""

TO: Final = _set("""
    email mail send sent reply forward assign assigned share shared deliver notify copy transfer pay
""")
"""``assigned_to``, ``share_with``, ``reply_to``."""

CUES_BEFORE: Final = _set("""
    to with for from by in into user channel group room named called handle cc bcc and or
""")
CUES_AFTER: Final = _set("""
    channel group room user list chat sent wrote asked asks wants wanted posted posts said says needs shared
""")
"""Beside these words a plain word of a request names somebody, or a place to write to."""
