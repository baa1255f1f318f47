"""The fake Vidu's tables: its endpoints, the fields they require, and its refusals."""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["PATHS", "REFUSALS", "REQUIRED", "SOLUTIONS", "SYNCHRONOUS"]

REQUIRED: Mapping[str, tuple[str, ...]] = {
    "text2video": ("model", "prompt"),
    "img2video": ("model", "images"),
    "start-end2video": ("model", "images"),
    "reference2video": ("model", "prompt"),
    "multiframe": ("model", "start_image", "image_settings"),
    "template": ("template", "images"),
    "template2video": ("template", "images"),
    "template-story": ("story", "images"),
    "reference2image": ("model", "prompt"),
    "text2audio": ("model", "prompt"),
    "timing2audio": ("model", "timing_prompts"),
    "audio-tts": ("text", "voice_setting_voice_id"),
    "audio-clone": ("audio_url", "voice_id", "text"),
    "lip-sync": ("video_url",),
    "digital-human": (),
    "extend": (),
    "upscale-new": (),
    "upscale": (),
    "image2dance": ("image_url", "video_url"),
    "img2video-prompt-recommendation": (),
    "ad-one-click": ("images",),
    "one-click/mv": ("images", "audio_url"),
    "trending-replicate": ("video_url", "images"),
}
"""Each generation endpoint and the fields it cannot do without."""

PATHS = frozenset(REQUIRED)
SOLUTIONS = ("ad-one-click", "one-click/mv", "trending-replicate")
"""Endpoints with paths below them, such as ``ad-one-click/{id}/edit``."""
SYNCHRONOUS = frozenset({"audio-clone", "img2video-prompt-recommendation"})
"""Endpoints that answer with the result: charged, but no task that runs."""

_FIELD = "invalid field: prompt"

REFUSALS: Mapping[str, tuple[int, str]] = {
    "CreditInsufficient": (400, "insufficient credits"),
    "QuotaExceeded": (429, "quota exceeded"),
    "TooManyRequests": (429, "too many requests"),
    "SystemThrottling": (429, "system throttling"),
    "OperationInProcess": (400, "operation in process"),
    "AuditSubmitIllegal": (400, "audit submit illegal"),
    "CreationPolicyViolation": (400, "creation policy violation"),
    "TaskPromptPolicyViolation": (400, "task prompt policy violation"),
    "ModelUnavailable": (400, "model unavailable"),
    "UserCancelled": (400, "user cancelled"),
    "BadRequest": (400, "bad request"),
    "FieldLacking": (400, "field is missing or empty: model"),
    "FieldUnwanted": (400, "unwanted field: bgm"),
    "FieldItemCountOutOfRange": (400, "invalid field: images"),
    "FieldInvalid": (400, _FIELD),
    "PageSizeOutOfRange": (400, "image size or ratio out of range"),
    "ImageDownloadFailure": (400, "image download failure"),
    "ImageFormatInvalid": (400, "image format invalid"),
    "ImageCheckBodyJointsFailed": (400, "image check body joints failed"),
    "ImageCheckFaceFailed": (400, "image check face failed"),
    "ImageObjectsUndetected": (400, "image objects undetected"),
    "Unauthorized": (401, "unauthorized"),
    "Forbidden": (403, "forbidden"),
    "TaskNotFound": (404, "task not found"),
    "CreationNotFound": (404, "creation not found"),
    "NotFound": (404, "not found"),
    "Conflict": (409, "conflict"),
    "Canceled": (499, "client closed request"),
    "InternalServiceFailure": (500, "internal service failure"),
}
"""Every reason with its status and message."""
