"""Generators of occlusion that come with occframe."""

from __future__ import annotations

from occframe import hookimpl

#: name -> (factory, configuration, one line), all within this package.
_SUITE = {
    "glasses": ("eyewear:glasses", "GlassesConfig", "glasses: ten frame shapes, lenses that tint, reflect and refract"),
    "sunglasses": ("eyewear:sunglasses", "SunglassesConfig", "sunglasses: dark, gradient and mirrored lenses"),
    "random-eyewear": (
        "eyewear_random:build",
        "RandomEyewearConfig",
        "glasses of any colour, lens and place, as nobody wears them, to learn from",
    ),
    "medical-mask": (
        "medical_mask:build",
        "MedicalMaskConfig",
        "surgical, KN95, cloth and patterned masks, with straps",
    ),
    "scarf": ("scarf:build", "ScarfConfig", "a scarf over chin, mouth or nose"),
    "hat": ("headwear:hat", "HatConfig", "beanie, cap or hood, with the shadow on the brow"),
    "hair": ("headwear:hair", "HairConfig", "bangs and side locks"),
    "hand": ("held:hand", "HandConfig", "a hand before mouth, eye or cheek, in the colour of the face"),
    "object": ("held:held_object", "ObjectConfig", "a telephone or a cup held before the face"),
    "dirt": ("camera_lens:build", "DirtConfig", "dirt, drops of water or glare on the camera's lens"),
    "watermark": ("watermark:build", "WatermarkConfig", "text laid over the picture"),
    "eye-bar": ("bars:eye_bar", "BarConfig", "a bar over both eyes"),
    "mouth-bar": ("bars:mouth_bar", "BarConfig", "a bar over the mouth"),
    "half-face": ("bars:half_face", "HalfFaceConfig", "the left, right, upper or lower part of the face"),
    "block-grid": ("boxes:block_grid", "BlockGridConfig", "whole blocks of a K x K grid, as FROM's patterns"),
    "erasing": ("boxes:erasing", "ErasingConfig", "random erasing: one rectangle of noise or the mean colour"),
    "blobs": ("blobs:build", "BlobsConfig", "smooth random shapes with a texture, of an exact coverage"),
    "sprites": ("sprites:build", "SpritesConfig", "your own RGBA pictures, at any scale and place"),
    "face-sprites": (
        "face_sprites:build",
        "FaceSpritesConfig",
        "your own RGBA pictures of things worn, each at its place on the face",
    ),
    "choice": ("combine:choice", "ChoiceConfig", "one of several occlusions for each image"),
    "compose": ("combine:compose", "ComposeConfig", "several occlusions over one another"),
}


@hookimpl
def occframe_register_occlusions(register):  # type: ignore[no-untyped-def]
    register(
        "rectangles",
        "occframe_occlusions.rectangles:build",
        config="occframe_occlusions.configs:RectanglesConfig",
        summary="opaque rectangles of a colour, a texture or a patch of another face",
    )
    for name, (factory, config, summary) in _SUITE.items():
        register(
            name,
            f"occframe_occlusions.{factory}",
            config=f"occframe_occlusions.suite_configs:{config}",
            summary=summary,
            caps={"gpu"},
        )


@hookimpl
def occframe_register_commands(register):  # type: ignore[no-untyped-def]
    register(
        "occlusions",
        "occframe_occlusions.cli:occlusions",
        config=None,
        summary="list the occlusion generators, or see what one does to faces",
    )
