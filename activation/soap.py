"""The little of SOAP that one platform still needs: envelopes with escaped values, and parsing that expands no entities."""

from __future__ import annotations

import re
from collections.abc import Iterator
from xml.etree import ElementTree
from xml.etree.ElementTree import Element
from xml.sax.saxutils import escape

ENVELOPE = "http://www.w3.org/2003/05/soap-envelope"
ADDRESSING = "http://schemas.xmlsoap.org/ws/2004/08/addressing"
INSTANCE = "http://www.w3.org/2001/XMLSchema-instance"
TYPE = f"{{{INSTANCE}}}type"
NIL = f"{{{INSTANCE}}}nil"
CONTENT_TYPE = "application/soap+xml; charset=utf-8"

# XML 1.0 has no place for these, not even escaped.
_NO_CHARACTERS = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff\ud800-\udfff]")


def escaped(text: str) -> str:
    """A text as an element may hold it."""
    # Most are plain, and looking for what has to go takes ten times as long.
    if text.isalnum():
        return text
    return escape(_NO_CHARACTERS.sub("", text))


def element(name: str, text: str) -> str:
    """An element that holds a text."""
    return f"<{name}>{escaped(text)}</{name}>"


def envelope(action: str, to: str, header: str, body: str) -> bytes:
    """A request. `header` and `body` are XML already."""
    return (
        f'<s:Envelope xmlns:s="{ENVELOPE}" xmlns:a="{ADDRESSING}"><s:Header>'
        f'<a:Action s:mustUnderstand="1">{escaped(action)}</a:Action><a:To s:mustUnderstand="1">{escaped(to)}</a:To>'
        f'{header}</s:Header><s:Body xmlns:xsi="{INSTANCE}">{body}</s:Body></s:Envelope>'
    ).encode()


def parse(text: str) -> Element:
    """Parse a document whose author is not trusted.

    Raises:
        ValueError: it is no XML, or it has a document type: that is where entities and external files come from, and
            SOAP forbids it.
    """
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise ValueError("XML with a document type is not read")
    try:
        return ElementTree.fromstring(text)  # nothing is left in it that could expand
    except ElementTree.ParseError as error:
        # The parser's own words may quote what it read.
        raise ValueError(f"no XML (line {error.position[0]})") from None


def local(node: Element) -> str:
    """An element's name without its namespace."""
    return node.tag.rpartition("}")[2]


def children(node: Element, name: str) -> Iterator[Element]:
    """Direct children of that name, whatever their namespace."""
    return (child for child in node if local(child) == name)


def first(node: Element, *path: str) -> Element | None:
    """The first element on a path of names."""
    found: Element | None = node
    for name in path:
        found = next(children(found, name), None) if found is not None else None
    return found


def text(node: Element, *path: str) -> str | None:
    """The text of the first element on a path; None where there is none, or where it is nil."""
    found = first(node, *path)
    if found is None or found.get(NIL) == "true":
        return None
    return found.text or ""


def texts(node: Element) -> dict[str, str | None]:
    """Texts of an element's children by name; None for those that are nil."""
    return {local(child): None if child.get(NIL) == "true" else child.text or "" for child in node}


def body_of(document: Element) -> Element:
    """The first element in the body of an envelope.

    Raises:
        ValueError: it is no envelope.
    """
    body = first(document, "Body")
    if local(document) != "Envelope" or body is None or len(body) == 0:
        raise ValueError("no SOAP envelope")
    return body[0]
