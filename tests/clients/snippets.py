"""The README's lines for generated clients, each in a program of its own that prints a picture's size."""

from __future__ import annotations

import re
from typing import Final

from tests.environments import ROOT

# What stands round the lines: imports, where the gateway is, and the last word. No brace of it is a format's.
_ROUND: Final = {
    "python": """\
import sys
import httpx
from flashgate_client import AuthenticatedClient
from flashgate_client.api.native import generate_images, get_image
from flashgate_client.models import GenerateRequest, GenerateResponse
from flashgate_client.types import File

URL, KEY = sys.argv[1:3]
LINES
assert isinstance(picture, File)
print(len(picture.payload.read()))
""",
    "ts": """\
import { argv, stdout } from "node:process";
import { createClient } from "./client/client/index.js";
import { generateImages, getImage } from "./client/index.js";

const [URL, KEY] = argv.slice(2) as [string, string];
LINES
stdout.write(String((await picture.data.arrayBuffer()).byteLength));
""",
    "java": """\
import flashgate.ApiClient;
import flashgate.api.NativeApi;
import flashgate.api.NativeApi.APIGenerateImagesRequest;
import flashgate.api.NativeApi.APIGetImageRequest;
import flashgate.model.GenerateRequest;
import flashgate.model.GenerateResponse;
import java.io.File;

public final class Readme {
    public static void main(String[] arguments) throws Exception {
        String URL = arguments[0], KEY = arguments[1];
LINES
        System.out.print(picture.length());
    }
}
""",
}
_MARKS: Final = {"python": "openapi-python-client", "ts": "openapi-ts", "java": "openapi-generator-cli"}


def lines(language: str) -> str:
    """The README's block for a language, without the comment that tells how to generate."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(rf"```{language}\n(.*?)```", readme, re.DOTALL)
    (found,) = (block for block in blocks if _MARKS[language] in block.splitlines()[0])
    return "\n".join(found.splitlines()[1:])


def program_of(language: str) -> str:
    """The whole program."""
    return _ROUND[language].replace("LINES", lines(language))
