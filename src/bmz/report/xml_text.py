"""Documents of XML, which stay legal whatever signs a name or a message holds."""

from __future__ import annotations

import re
from xml.etree import ElementTree as ET

# XML 1.0, 2.2: "any Unicode character, excluding the surrogate blocks, FFFE, and FFFF", and of the
# control characters tab and line ends alone; ElementTree writes the others as they are
_ILLEGAL = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def xml_text(root: ET.Element) -> str:
    """Give a document as indented text, with a replacement mark for what XML cannot hold.

    Letters beyond ASCII are character references, so that any terminal and any encoding holds it.
    """
    for element in root.iter():
        element.text = element.text and _legal(element.text)
        element.attrib.update({name: _legal(value) for name, value in element.items()})
    ET.indent(root)
    document: bytes = ET.tostring(root, encoding="us-ascii", xml_declaration=True)
    return document.decode("ascii")


def _legal(text: str) -> str:
    return _ILLEGAL.sub("\N{REPLACEMENT CHARACTER}", text)
