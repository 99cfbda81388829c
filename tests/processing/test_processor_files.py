"""DPTImageProcessor's settings: sizes in every spelling, preprocessor_config.json, attributes."""

import copy
import json
import pickle
import stat

import numpy as np
import pytest

from dptcli.errors import ConfigError, ModelError
from dptcli.processing.processor import DPTFeatureExtractor, DPTImageProcessor


def test_with_size_makes_a_copy_that_resizes():
    ours = DPTImageProcessor(do_resize=False, note=1)
    other = ours.with_size(518, keep_aspect_ratio=True, multiple_of=14)
    assert other.network_hw((480, 640)) == (518, 686)
    assert ours.network_hw((480, 640)) == (480, 640)
    assert other.note == 1
    assert ours.with_size((100, 200)).size == {"height": 100, "width": 200}


@pytest.mark.parametrize(
    "size", [384, (384, 384), [384, 384], {"height": 384, "width": 384}], ids=str
)
def test_every_spelling_of_size_is_one_size(size):
    assert DPTImageProcessor(size=size) == DPTImageProcessor()
    assert DPTImageProcessor(size=size).size["height"] == 384


@pytest.mark.parametrize(
    "values",
    [
        {"size_divisibility": 14, "do_pad": True},
        {"size_divisor": 14, "size_divisibility": 7, "do_pad": True},
        {"size_divisor": None, "size_divisibility": 14, "do_pad": True, "image_mean": None},
        {"feature_extractor_type": "DPTFeatureExtractor", "size_divisor": 14, "do_pad": True},
        {"image_processor_type": "DPTImageProcessorFast", "size_divisor": 14, "do_pad": True},
    ],
    ids=str,
)
def test_old_spellings_are_read_and_written_new(values):
    ours = DPTImageProcessor.from_dict(values)
    assert ours == DPTImageProcessor(do_pad=True, size_divisor=14)
    written = ours.to_dict()
    assert written["size_divisor"] == 14
    assert written["image_processor_type"] == "DPTImageProcessor"
    assert not {"size_divisibility", "feature_extractor_type"} & set(written)


def test_another_familys_processor_is_refused():
    with pytest.raises(ConfigError, match="ZoeDepthImageProcessor"):
        DPTImageProcessor.from_dict({"image_processor_type": "ZoeDepthImageProcessor"})


def test_unknown_words_to_reach_a_file_are_left_out_of_it(tmp_path, caplog):
    DPTImageProcessor(size=32).save_pretrained(tmp_path)
    given = {"hf_api_key": "hf_secret", "do_pad": True}
    processor = DPTImageProcessor.from_pretrained(tmp_path, **given)
    processor.save_pretrained(tmp_path / "again")
    assert "secret" not in (tmp_path / "again/preprocessor_config.json").read_text()
    assert caplog.messages == ["DPTImageProcessor: unknown 'hf_api_key' is left out"]
    again, unused = DPTImageProcessor.from_pretrained(tmp_path, return_unused_kwargs=True, **given)
    assert (again, unused) == (processor, {"hf_api_key": "hf_secret"})
    assert again.do_pad


def test_unknown_keys_travel_through_files(tmp_path):
    ours = DPTImageProcessor(crop_pct=0.9, nested={"a": [1, None]}, size=100, image_mean=0.4)
    ours.save_pretrained(tmp_path / "new" / "folder")
    again = DPTImageProcessor.from_pretrained(tmp_path / "new" / "folder")
    assert again == ours
    assert again.nested == {"a": [1, None]}
    assert again.image_mean == 0.4
    path = tmp_path / "new" / "folder" / "preprocessor_config.json"
    assert DPTImageProcessor.from_pretrained(path, size=20).size == {"height": 20, "width": 20}
    assert [p.name for p in path.parent.iterdir()] == ["preprocessor_config.json"]
    assert stat.S_IMODE(path.stat().st_mode) & stat.S_IRUSR


def test_a_failed_save_leaves_the_old_file(tmp_path):
    DPTImageProcessor(size=64).save_pretrained(tmp_path)
    with pytest.raises(TypeError):
        DPTImageProcessor(note=object()).save_pretrained(tmp_path)
    assert DPTImageProcessor.from_pretrained(tmp_path).size["height"] == 64
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("text", ["", "{", "[1]", "null", '{"size": 0}', '{"resample": "x"}'])
def test_broken_files_are_refused_by_name(tmp_path, text):
    path = tmp_path / "preprocessor_config.json"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"preprocessor_config\.json"):
        DPTImageProcessor.from_pretrained(tmp_path)


def test_a_missing_file_is_said_with_its_place(tmp_path):
    with pytest.raises(ModelError, match=r"preprocessor_config\.json"):
        DPTImageProcessor.from_pretrained(tmp_path)
    with pytest.raises(ModelError, match="nowhere"):
        DPTImageProcessor.from_pretrained(tmp_path / "nowhere")


def test_parameters_read_and_set_as_attributes():
    ours = DPTImageProcessor()
    ours.size = 97
    ours.do_normalize = False
    ours.note = "x"
    assert ours.size == {"height": 97, "width": 97}
    assert ours(np.full((30, 40, 3), 255, np.uint8)).pixel_values[0].max() <= 1
    assert ours.to_dict()["note"] == "x"
    assert (ours.do_reduce_labels, ours.do_convert_rgb, ours.max_long_side) == (False, True, 4096)
    assert ours.to_dict()["do_reduce_labels"] is False
    assert json.loads(json.dumps(ours.to_dict())) == ours.to_dict()
    with pytest.raises(AttributeError, match="no parameter 'colour'"):
        _ = ours.colour
    for twin in (copy.deepcopy(ours), pickle.loads(pickle.dumps(ours))):
        assert twin == ours


def test_the_old_name_warns_and_is_the_same():
    with pytest.warns(FutureWarning, match="DPTImageProcessor"):
        old = DPTFeatureExtractor(size=64)
    assert old == DPTImageProcessor(size=64)
    assert old.to_dict()["image_processor_type"] == "DPTImageProcessor"
