"""A U-Net as an ONNX file, and what the file's answers differ from PyTorch's by."""

import logging as python_logging
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn

from .. import sample
from ..base.errors import UserError
from ..base.progress import quiet

SMALL = 64      # numbers; shorter weights stay float32


def check_packages() -> None:
    """A UserError unless onnx, onnxscript and onnxruntime are there."""
    from importlib.util import find_spec
    missing = [name for name in ("onnx", "onnxscript", "onnxruntime") if find_spec(name) is None]
    if missing:
        raise UserError(f"export needs {', '.join(missing)}: pip install 'dslib[web]', or pip install -e '.[web]' in the course's folder")


class Plain(nn.Module):
    """(x_t (N,C,R,R), t (N,) float32) → the network's output, as tensors alone."""

    def __init__(self, net: nn.Module):
        super().__init__()
        self.net = net

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        return self.net(x_t, t).sample


def to_onnx(unet):
    """The graph of a UNet2DModel with float32 weights: inputs x_t (n,C,R,R) and t (n,), output ``output``.

    Names and places of this machine, which the exporter notes at each node, are left out.
    """
    from diffusers.utils import logging
    plain, config = Plain(unet).eval(), unet.config
    x_t = torch.zeros(2, config.in_channels, config.sample_size, config.sample_size, device=next(unet.parameters()).device)
    for name in ("onnxscript", "onnx_ir", "torch.onnx"):              # a remark a pass, where somebody has turned logging on
        python_logging.getLogger(name).setLevel(python_logging.WARNING)
    with quiet(logging):
        program = torch.onnx.export(plain, (x_t, x_t.new_zeros(2)), dynamo=True, verbose=False, opset_version=18,
                                    input_names=["x_t", "t"], output_names=["output"], dynamic_shapes={"x_t": {0: "n"}, "t": {0: "n"}})
    model = program.model_proto
    del model.metadata_props[:], model.graph.metadata_props[:], model.functions[:]
    for part in (*model.graph.node, *model.graph.value_info, *model.graph.input, *model.graph.output, *model.graph.initializer):
        part.doc_string = ""
        del part.metadata_props[:]
    return model


def halve(model):
    """The same graph with float16 weights, turned to float32 when it is opened: half the bytes."""
    import onnx
    small = onnx.ModelProto()
    small.CopyFrom(model)
    casts = []
    for tensor in small.graph.initializer:
        if tensor.data_type != onnx.TensorProto.FLOAT or np.prod(tensor.dims) <= SMALL:
            continue
        name, values = tensor.name, onnx.numpy_helper.to_array(tensor)
        if np.abs(values).max() > np.finfo(np.float16).max:
            raise UserError(f"{name} has values beyond float16's range: add --float32")
        tensor.CopyFrom(onnx.numpy_helper.from_array(values.astype(np.float16), name + ".half"))
        casts.append(onnx.helper.make_node("Cast", [tensor.name], [name], to=onnx.TensorProto.FLOAT))
    nodes = [*casts, *small.graph.node]
    del small.graph.node[:]
    small.graph.node.extend(nodes)
    return small


class Session:
    """An ONNX file under onnxruntime, called as a U-Net is, for :func:`dslib.sample.chain`."""

    def __init__(self, content: bytes, unet):
        import onnxruntime
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        self.session, self.config = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"]), unet.config

    def parameters(self) -> Iterator[Tensor]:
        yield torch.zeros(())

    def __call__(self, x_t: Tensor, t: Tensor):
        from types import SimpleNamespace
        feeds = {"x_t": x_t.numpy(), "t": t.expand(len(x_t)).numpy().astype(np.float32)}
        return SimpleNamespace(sample=torch.from_numpy(self.session.run(["output"], feeds)[0]))


def parity(unet, scheduler, content: bytes, n: int = 2, steps: int = 20, seed: int = 0) -> dict:
    """PyTorch against onnxruntime, from the same noise, both on the CPU.

    Returns largest differences: ``answers``, of the network's outputs at each of PyTorch's x_t, one a step (a list); ``image``, of the
    pictures in [-1,1] after all DPM-Solver steps, each on its own way, and its mean ``image_mean``.
    """
    unet = unet.cpu().eval()
    other = Session(content, unet)
    noise = sample.start_noise(n, unet.config.sample_size, seed, unet.config.in_channels)
    answers, x_t = [], noise
    with torch.no_grad():
        for link in sample.chain(unet, scheduler, noise, steps, "dpmsolver"):
            t = torch.tensor(link.t)
            answers.append(float((unet(x_t, t).sample - other(x_t, t).sample).abs().max()))
            x_t = link.x_t
        drawn = list(sample.chain(other, scheduler, noise, steps, "dpmsolver"))[-1].x_t
    gap = (drawn.clamp(-1, 1) - x_t.clamp(-1, 1)).abs()
    return {"sampler": "dpmsolver", "steps": steps, "images": n, "seed": seed, "answers": answers, "image": float(gap.max()),
            "image_mean": float(gap.mean())}
