"""What people do with models beside predicting: train, compile, trace, export, copy, pipelines."""

import copy
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from test_changing_config import SMALL
from torch import Tensor

from dptcli import (
    BeitBackbone,
    BitBackbone,
    Dinov2Backbone,
    DPTConfig,
    DPTForDepthEstimation,
    DPTForSemanticSegmentation,
    DPTImageProcessor,
    GLPNForDepthEstimation,
    Swinv2Backbone,
    VitDetBackbone,
)
from dptcli.model.outputs import DepthEstimatorOutput, SemanticSegmenterOutput

PIXELS = torch.linspace(-1, 1, 2 * 3 * 32 * 32).view(2, 3, 32, 32)
LABELS = torch.arange(2 * 32 * 32).view(2, 32, 32) // 100 % 5


@pytest.fixture
def depth_model() -> DPTForDepthEstimation:
    torch.manual_seed(0)
    return DPTForDepthEstimation(DPTConfig(**SMALL)).eval()


@pytest.fixture
def segments(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    DPTForSemanticSegmentation(DPTConfig(**SMALL)).save_pretrained(tmp_path / "segments")
    return tmp_path / "segments"


def five_classes(folder: Path) -> DPTForSemanticSegmentation:
    """The saved model with a new head, ready to be fine-tuned."""
    torch.manual_seed(0)
    return DPTForSemanticSegmentation.from_pretrained(
        folder, num_labels=5, ignore_mismatched_sizes=True
    ).train()


def test_fine_tuning_another_number_of_classes_in_a_plain_loop(
    segments: Path, tmp_path: Path
) -> None:
    model = five_classes(segments)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    losses = []
    for _ in range(8):
        optimizer.zero_grad()
        loss = model(pixel_values=PIXELS, labels=LABELS).loss
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.9 * losses[0]
    model.eval().save_pretrained(tmp_path / "tuned")
    again = DPTForSemanticSegmentation.from_pretrained(tmp_path / "tuned")
    assert torch.equal(again(PIXELS).logits, model(PIXELS).logits)


def test_the_references_trainer_trains_and_its_checkpoint_loads(
    segments: Path, tmp_path: Path
) -> None:
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("accelerate")
    model = five_classes(segments)
    model.config.use_cache = False  # as the reference's recipes do
    rows = [{"pixel_values": PIXELS[i], "labels": LABELS[i]} for i in range(2)]
    arguments = transformers.TrainingArguments(
        output_dir=str(tmp_path / "run"),
        per_device_train_batch_size=2,
        max_steps=2,
        learning_rate=1e-2,
        report_to=[],
        use_cpu=True,
        disable_tqdm=True,
        activation_checkpointing=True,
        logging_steps=1,
        dataloader_pin_memory=False,
    )
    trainer = transformers.Trainer(
        model=model, args=arguments, train_dataset=rows, processing_class=DPTImageProcessor()
    )
    before = model.head.head[4].weight.detach().clone()
    trainer.train()
    assert not torch.equal(model.head.head[4].weight, before)
    trainer.save_model(str(tmp_path / "saved"))  # the weights and the processor
    model.config.save_pretrained(tmp_path / "saved")
    again = DPTForSemanticSegmentation.from_pretrained(tmp_path / "saved")
    assert torch.equal(again(PIXELS).logits, model.eval()(PIXELS).logits)
    theirs = transformers.DPTForSemanticSegmentation.from_pretrained(tmp_path / "saved").eval()
    assert torch.allclose(theirs(PIXELS).logits, again(PIXELS).logits, atol=1e-4)
    predicted = trainer.predict(rows)
    assert predicted.predictions.shape == (2, 5, 32, 32)


def test_accelerate_trains_and_saves_with_its_usual_call(segments: Path, tmp_path: Path) -> None:
    accelerate = pytest.importorskip("accelerate")
    accelerator = accelerate.Accelerator(cpu=True)
    model = five_classes(segments)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-2)
    model, optimizer = accelerator.prepare(model, optimizer)
    accelerator.backward(model(PIXELS, labels=LABELS).loss)
    optimizer.step()
    plain = accelerator.unwrap_model(model)
    plain.save_pretrained(
        tmp_path / "tuned",
        is_main_process=accelerator.is_main_process,
        save_function=accelerator.save,
        state_dict=accelerator.get_state_dict(model),
    )
    again = DPTForSemanticSegmentation.from_pretrained(tmp_path / "tuned")
    assert torch.equal(again(PIXELS).logits, plain.eval()(PIXELS).logits)
    transformers = pytest.importorskip("transformers")
    theirs = transformers.DPTForSemanticSegmentation.from_pretrained(tmp_path / "tuned").eval()
    assert torch.allclose(theirs(PIXELS).logits, again(PIXELS).logits, atol=1e-4)


def test_compiled_it_gives_the_same_in_one_graph(depth_model: DPTForDepthEstimation) -> None:
    with torch.no_grad():
        plain = depth_model(PIXELS, output_hidden_states=True)
        compiled = torch.compile(depth_model, backend="eager", fullgraph=True)
        found = compiled(PIXELS, output_hidden_states=True)
    assert isinstance(found, DepthEstimatorOutput)
    assert torch.allclose(found.predicted_depth, plain.predicted_depth, atol=1e-6)
    assert len(found.hidden_states) == 5


def test_exported_it_gives_the_same_output_object(depth_model: DPTForDepthEstimation) -> None:
    program = torch.export.export(depth_model, (PIXELS,))
    found = program.module()(PIXELS)
    assert isinstance(found, DepthEstimatorOutput)
    assert torch.allclose(found.predicted_depth, depth_model(PIXELS).predicted_depth, atol=1e-6)


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning")  # since torch 2.14
def test_traced_it_gives_the_same(depth_model: DPTForDepthEstimation, tmp_path: Path) -> None:
    traced = torch.jit.trace(depth_model, PIXELS, strict=False)
    traced.save(tmp_path / "traced.pt")
    found = torch.jit.load(tmp_path / "traced.pt")(PIXELS)
    assert torch.allclose(found["predicted_depth"], depth_model(PIXELS).predicted_depth, atol=1e-6)


@pytest.mark.parametrize(
    "twin",
    [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))],
    ids=["copy", "pickle"],
)
def test_models_and_outputs_survive_copies(depth_model: DPTForDepthEstimation, twin: Any) -> None:
    output = depth_model(PIXELS, output_hidden_states=True)
    again = twin(depth_model)(PIXELS, output_hidden_states=True)
    assert torch.equal(again.predicted_depth, output.predicted_depth)
    output.predicted_depth = output.predicted_depth.detach()
    output.hidden_states = None
    copied = twin(output)
    assert isinstance(copied, DepthEstimatorOutput)
    assert torch.equal(copied.predicted_depth, output.predicted_depth)


def test_data_parallel_gathers_losses_and_logits(monkeypatch: pytest.MonkeyPatch) -> None:
    """As torch gathers the replicas' outputs, but with the CPU's tensors, which it refuses."""
    from torch.nn.parallel import scatter_gather

    class OnCpu:
        @staticmethod
        def apply(_device: object, _dim: int, *tensors: Tensor) -> Tensor:
            return torch.cat([torch.atleast_1d(tensor) for tensor in tensors])

    monkeypatch.setattr(scatter_gather, "Gather", OnCpu)
    model = DPTForSemanticSegmentation(DPTConfig(**SMALL, num_labels=5))
    outputs = [model(PIXELS[i : i + 1], labels=LABELS[i : i + 1]) for i in range(2)]
    gathered = scatter_gather.gather(outputs, "cpu")
    assert isinstance(gathered, SemanticSegmenterOutput)
    assert gathered.loss.tolist() == [float(output.loss.detach()) for output in outputs]
    assert torch.equal(gathered.logits[1:], outputs[1].logits)


BACKBONES: dict[str, tuple[Any, dict[str, Any]]] = {
    "dpt": (DPTForDepthEstimation, SMALL),
    "dinov2": (
        Dinov2Backbone,
        {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 28},
    ),
    "beit": (
        BeitBackbone,
        {
            "hidden_size": 16,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "intermediate_size": 32,
            "image_size": 32,
            "drop_path_rate": 0.0,
        },
    ),
    "swinv2": (
        Swinv2Backbone,
        {
            "embed_dim": 8,
            "depths": [2, 1],
            "num_heads": [1, 2],
            "image_size": 32,
            "window_size": 2,
            "drop_path_rate": 0.0,
        },
    ),
    "vitdet": (
        VitDetBackbone,
        {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 32},
    ),
    "bit": (
        BitBackbone,
        {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1], "num_groups": 2},
    ),
    "glpn": (
        GLPNForDepthEstimation,
        {
            "depths": [1, 1, 1, 1],
            "hidden_sizes": [8, 8, 16, 16],
            "num_attention_heads": [1, 1, 2, 2],
            "decoder_hidden_size": 8,
            "drop_path_rate": 0.0,
        },
    ),
}


@pytest.mark.parametrize("kind", BACKBONES)
def test_gradient_checkpointing_gives_equal_gradients(kind: str) -> None:
    model_class, values = BACKBONES[kind]
    torch.manual_seed(0)
    model = model_class(model_class.config_class(**values)).train()

    def gradients() -> list[Tensor | None]:
        model.zero_grad()
        output = model(PIXELS)
        maps = output.get("feature_maps") or (output.predicted_depth,)
        sum((found * found).sum() for found in maps).backward()
        return [weight.grad for weight in model.parameters()]

    plain = gradients()
    model.gradient_checkpointing_enable()
    assert model.is_gradient_checkpointing
    stored = []
    with torch.autograd.graph.saved_tensors_hooks(
        lambda tensor: stored.append(tensor.numel()) or tensor, lambda tensor: tensor
    ):
        again = gradients()
    for expected, found in zip(plain, again, strict=True):
        assert (expected is None) == (found is None)
        assert found is None or torch.allclose(found, expected, rtol=1e-5, atol=1e-7)
    model.gradient_checkpointing_disable()
    assert not model.is_gradient_checkpointing
    everything = []
    with torch.autograd.graph.saved_tensors_hooks(
        lambda tensor: everything.append(tensor.numel()) or tensor, lambda tensor: tensor
    ):
        gradients()
    assert sum(stored) < sum(everything)


def test_the_references_pipeline_runs_our_model(depth_model: DPTForDepthEstimation) -> None:
    transformers = pytest.importorskip("transformers")
    processor = DPTImageProcessor(size=32)
    pipe = transformers.pipeline(
        "depth-estimation", model=depth_model, image_processor=processor, device="cpu"
    )
    picture = Image.fromarray(np.arange(40 * 60 * 3, dtype=np.uint8).reshape(40, 60, 3))
    found = pipe(picture)
    inputs = processor(picture, return_tensors="pt")
    with torch.no_grad():
        [expected] = processor.post_process_depth_estimation(depth_model(**inputs), [(40, 60)])
    assert torch.allclose(found["predicted_depth"], expected["predicted_depth"], atol=1e-6)
    assert found["depth"].size == (60, 40)
