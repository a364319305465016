"""Names of explainers and machines, and numbers in sentences."""

import math

from unitlens import cam, wording


def test_explainers_and_machines_have_titles():
    titles = [wording.explainer_title(f"{method}-features.12") for method in cam.METHODS]
    assert titles == ["Grad-CAM", "HiResCAM", "Grad-CAM++", "XGrad-CAM", "LayerCAM", "Ablation-CAM", "Score-CAM"]
    assert [wording.explainer_title(name) for name in ("lime", "random")] == ["LIME", "Random map"]
    assert wording.explainer_title("shap-fc") == "shap"
    assert wording.machine_title("cpu", 1) == "CPU, 1 thread"
    assert wording.machine_title("NVIDIA H100", 4) == "NVIDIA H100, 4 threads"
    assert wording.pair_title("gradcam-layer4", "lime") == "Grad-CAM and LIME"


def test_numbers_in_sentences():
    assert wording.estimate(0.312, 0.22, 0.404, 10) == "0.31 (95 % interval 0.22 to 0.40, n = 10)"
    assert wording.estimate(0.5, math.nan, math.nan, 2, decimals=3) == (
        "0.500 (no interval below three photographs, n = 2)"
    )
    assert wording.p_value(0.0001) == "p < 0.001"
    assert wording.p_value(0.0432) == "p = 0.043"
