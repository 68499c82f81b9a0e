"""Which class a label means, and what is said of labels that mean none."""

import logging

import pytest

from common.errors import DataError
from training.config import load_config
from training.dataset.labels import check_labels, class_of


@pytest.mark.parametrize(
    ("label", "expected"),
    [
        ("simswap_Fake", 1),
        ("simswap_Real", 0),
        ("Mine_real", 0),
        ("Mine-FAKE", 1),
        ("DFDCP_FakeB", 1),
        ("roop_fake2", 1),
        ("simswap_Fake_ff", 1),
        ("simswap_Real_cdf", 0),
        ("real_esrgan", None),  # a generator of fakes
        ("Real", None),
        ("whichfaceisreal", None),
        ("FF-XY", None),
        ("not_so_fakery", None),
    ],
)
def test_an_ending_tells_only_where_it_is_plain(label, expected):
    assert class_of(label, {}) == expected


def test_label_dict_is_stronger_than_an_ending():
    assert class_of("hyper_real", {"hyper_real": 1}) == 1


def test_every_unknown_label_is_named_at_once():
    labels = {"A": ["FF-real", "oddity", "blur"], "B": ["oddity", "C_Fake", "strange"]}
    with pytest.raises(DataError) as caught:
        check_labels(labels, {"FF-real": 0})
    said = str(caught.value)
    assert "`oddity`, `blur` of the dataset A; `oddity`, `strange` of the dataset B" in said
    assert "`oddity: 1` (fake)" in said
    assert "C_Fake" not in said
    with pytest.raises(DataError, match=r"the label `blur` of the dataset A is not in label_dict; add `blur: 0`"):
        check_labels({"A": ["blur"]}, {})


def test_what_was_read_from_an_ending_is_said(caplog):
    with caplog.at_level(logging.INFO, "clipdeepfake.data"):
        check_labels({"A": ["Mine_real", "FF-DF", "Mine_fake"]}, {"FF-DF": 1})
    assert [record.getMessage() for record in caplog.records] == [
        "labels that label_dict lacks, real by their ending: Mine_real",
        "labels that label_dict lacks, fake by their ending: Mine_fake",
    ]


DF40 = (
    "FSAll FRAll EFSAll DF40_train e4s MidJourney deepfacelab danet fomm e4e hyperreenact MRAA one_shot_free pirender tpsm "
    "facedancer facevid2vid mcnet fsgan lia mraa inswap simswap sadtalker wav2lip uniface blendface mobileswap faceswap "
    "dalle2_face heygen whichisreal StyleGAN2 StyleGAN3 StyleGANXL ddim DiT pixart SiT sd1.5 sd2.1 VQGAN stargan "
    "starganv2 styleclip CollabDiff Collaborative_Diffusion rddm adm biggan glide midjourney sdv4 sdv5 vqdm wukong roop "
)


@pytest.mark.parametrize("mode", ["train", "test"])
def test_the_labels_of_df40s_own_configuration_are_data(tmp_path, mode):
    (tmp_path / "d.yaml").write_text("model_name: meso4\n")
    known = load_config(tmp_path / "d.yaml", mode=mode).label_dict
    assert [known.get(f"{name}_{word}") for name in DF40.split() for word in ("Real", "Fake")] == [0, 1] * len(
        DF40.split()
    )
