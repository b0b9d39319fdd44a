"""The messages between the decoder and its child processes."""

import json
import socket
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

# A request is the image's length, the side of the model input, and the image; an answer is four
# lengths, then header, model input, display image and thumbnail.
REQUEST = struct.Struct(">QI")
ANSWER = struct.Struct(">4I")
# The header of the first answer, before any image.
READY = {"ready": True}


@dataclass(frozen=True, slots=True)
class Answer:
    """What goes back for one image: a JSON header and three sections of raw bytes."""

    header: Mapping[str, Any]
    model_input: bytes = b""
    display: bytes = b""
    thumbnail: bytes = b""

    def send(self, channel: socket.socket) -> None:
        """Write the answer to a socket."""
        header = json.dumps(dict(self.header)).encode()
        sections = (header, self.model_input, self.display, self.thumbnail)
        lengths = ANSWER.pack(*(len(section) for section in sections))
        channel.sendall(b"".join((lengths, *sections)))
