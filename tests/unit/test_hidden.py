"""What a mask hides of a face, and the coordinates that say so."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from occframe.face_frame import FaceFrame, face_frame, template_landmarks
from occframe.hidden import REGIONS, hidden_fractions, region_masks

TEMPLATE = template_landmarks(112, 112)[None]


def test_the_frame_puts_the_landmarks_where_it_says() -> None:
    frame = face_frame(TEMPLATE, 112, 112)
    u, v = frame.to_face(TEMPLATE[:, :, 0], TEMPLATE[:, :, 1])
    assert torch.allclose(u[0, :2], torch.tensor([-1.0, 1.0]), atol=1e-4)
    assert torch.allclose(v[0, :2], torch.zeros(2), atol=1e-4)
    assert v[0, 3:].mean().item() == pytest.approx(2.31, abs=0.01)
    assert u[0, 3:].mean().item() == pytest.approx(0.0, abs=0.01)


@given(
    angle=st.floats(-3.1, 3.1),
    size=st.floats(0.3, 3.0),
    shift=st.tuples(st.floats(-90, 90), st.floats(-90, 90)),
    turn=st.floats(-0.6, 0.6),
    u=st.floats(-2, 2),
    v=st.floats(-2, 4),
)
def test_there_and_back_again(
    angle: float, size: float, shift: tuple[float, float], turn: float, u: float, v: float
) -> None:
    """to_face undoes to_image for faces anywhere, turned in the plane and out of it."""
    t = torch.tensor(angle)
    rotation = torch.stack([torch.stack([t.cos(), -t.sin()]), torch.stack([t.sin(), t.cos()])])
    points = TEMPLATE.clone()
    points[0, 2, 0] += turn * 17
    points = (points - 56) @ rotation.T * size + 56 + torch.tensor(shift)
    frame = face_frame(points, 112, 112)
    assert bool(frame.known)
    back = frame.to_face(*frame.to_image(torch.tensor([u]), torch.tensor([v])))
    assert back[0].item() == pytest.approx(u, abs=2e-3)
    assert back[1].item() == pytest.approx(v, abs=2e-3)
    again = FaceFrame.unpack(frame.pack())
    assert torch.equal(
        again.to_image(torch.tensor([u]), torch.tensor([v]))[0], frame.to_image(torch.tensor([u]), torch.tensor([v]))[0]
    )


@pytest.mark.parametrize("degrees", [0, 50, 72, 80])
def test_a_profile_is_as_large_as_the_face(degrees: float) -> None:
    """Turning brings the eyes together; a face unit down the face stays what it was."""
    points = TEMPLATE.clone()
    middle = points[:, :, 0].mean()
    points[:, :, 0] = middle + (points[:, :, 0] - middle) * math.cos(math.radians(degrees))
    assert face_frame(points, 112, 112).scale.item() == pytest.approx(
        face_frame(TEMPLATE, 112, 112).scale.item(), rel=0.02
    )


def test_a_nose_to_the_right_means_a_face_turned_to_the_right() -> None:
    points = TEMPLATE.clone()
    points[0, 2, 0] += 6
    frame = face_frame(points, 112, 112)
    near, far = frame.to_image(torch.tensor([[-2.0, 2.0]]), torch.zeros(1, 2))[0][0].sub(frame.origin[0, 0]).abs()
    assert frame.turn.item() > 0.2
    assert near > far


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 0.0, 1e20])
def test_unusable_landmarks_stand_for_an_aligned_crop(value: float) -> None:
    frame = face_frame(torch.full((1, 5, 2), value), 112, 112)
    assert not frame.known
    assert torch.equal(frame.origin, face_frame(TEMPLATE, 112, 112).origin)


def test_nothing_hidden_and_all_hidden() -> None:
    for alpha in (0.0, 0.5, 1.0):
        fractions = hidden_fractions(torch.full((1, 1, 112, 112), alpha), TEMPLATE)
        assert set(fractions) == set(REGIONS)
        assert all(value.item() == pytest.approx(alpha) for value in fractions.values())


def test_a_lower_half_hides_mouth_and_no_eyes() -> None:
    mask = torch.zeros(1, 1, 112, 112)
    mask[..., 76:, :] = 1
    fractions = {name: value.item() for name, value in hidden_fractions(mask, TEMPLATE).items()}
    assert fractions["mouth"] == 1
    assert fractions["eyes"] == 0
    assert 0 < fractions["nose"] < 0.3
    assert 0.2 < fractions["face"] < 0.5


def test_regions_outside_the_picture_are_unknown() -> None:
    fractions = hidden_fractions(torch.ones(1, 1, 112, 112), TEMPLATE + 400)
    assert all(torch.isnan(value).all() for value in fractions.values())


def test_regions_turn_with_the_face() -> None:
    upside_down = 111 - TEMPLATE
    upright, turned = region_masks(TEMPLATE, 112, 112)["mouth"], region_masks(upside_down, 112, 112)["mouth"]
    differing = (turned.flip(1, 2) != upright).float().mean()
    assert differing < 0.002
