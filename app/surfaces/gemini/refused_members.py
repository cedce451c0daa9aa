"""Members of Google's API that are refused although the gateway knows them, each with its reason."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

_RIGHTS: Final = "it would use caches, data, policies, or logs of the gateway's own account"
_OTHER_MODEL: Final = "it may choose another model, whose price is not reserved"
_NO_PRICE: Final = "what it reads or does has no price before the call"
_NO_MEDIA: Final = "the model neither reads nor makes this kind of media"
_NO_BOUND: Final = "the work on this file has no known cost"
_NO_STATE: Final = "it continues from a state that the gateway does not see"

REFUSED: Final[Mapping[str, str]] = {
    **dict.fromkeys(("cachedContent", "modelArmorConfig", "outputConfig", "store"), _RIGHTS),
    **dict.fromkeys(("routingConfig", "modelConfig"), _OTHER_MODEL),
    **dict.fromkeys(
        (
            *("retrieval", "computerUse", "fileSearch", "googleMaps", "codeExecution", "urlContext"),
            *(
                "enterpriseWebSearch",
                "googleSearchRetrieval",
                "parallelAiSearch",
                "exaAiSearch",
                "mcpServers",
            ),
            *("toolCall", "toolResponse", "includeServerSideToolInvocations"),
        ),
        _NO_PRICE,
    ),
    **dict.fromkeys(
        (
            *("speechConfig", "audioTimestamp", "audioTranscriptionConfig", "audioTranscription"),
            *("speechMetadata", "audioMetadata", "audio", "video", "enableAffectiveDialog"),
            "translationConfig",
        ),
        _NO_MEDIA,
    ),
    **dict.fromkeys(
        (
            *("mediaProcessing", "documentMetadata", "spreadsheetMetadata", "contentLayers", "numTokens"),
            *("mediaResolution", "videoMetadata"),
        ),
        _NO_BOUND,
    ),
    **dict.fromkeys(
        ("continuationToken", "partialArgs", "willContinue", "streamFunctionCallArguments"), _NO_STATE
    ),
}
"""By name; a member may pass in one message and be refused in another."""
