"""Libraries of networks are imported without torch's compiler, and what they ask of it is answered when they ask."""

import subprocess
import sys
from pathlib import Path

PROGRAM = """
import sys
import torch
from unitlens.networks.build import build, without_compiler

disable = torch.compiler.disable
for name in ["torchvision:squeezenet1_1", "timm:tf_efficientnet_lite0"]:
    build(name)
assert torch.compiler.disable is disable
print(sorted(name for name in sys.modules if name.startswith("torch._dynamo")))
with without_compiler():
    @torch.compiler.disable
    def one():
        return 1
    @torch.compiler.disable(recursive=False)
    def two():
        return 2
assert (one(), two()) == (1, 2)
align = sys.modules["torchvision.ops.roi_align"]
asked = align.is_compile_supported("cpu")
from torch._dynamo.utils import is_compile_supported
assert asked == is_compile_supported("cpu") and align.is_compile_supported is not is_compile_supported
with without_compiler():
    assert torch.compiler.disable is disable
"""


def test_networks_are_built_without_the_compiler_and_it_is_there_when_it_is_asked_for():
    scripts = Path(__file__).parents[3] / "scripts"
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], env={"PYTHONPATH": str(scripts)}, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "[]\n"), done.stderr
