"""Known messages become words; unknown ones are kept."""

from __future__ import annotations

import pytest

from convbench.failures import explain, explain_exit, explain_timeout


class InternalError(Exception):
    """TensorFlow's, by name."""


@pytest.mark.parametrize(
    ("error", "reason", "remedy"),
    [
        (InternalError("Blas SGEMM launch failed : m=1, n=6, k=75"), "no memory is left", "smi"),
        (RuntimeError("CUBLAS_STATUS_NOT_INITIALIZED"), "cuBLAS could not start", "another card"),
        (RuntimeError("CUBLAS_STATUS_ALLOC_FAILED"), "cuBLAS could not start", "another card"),
        (RuntimeError("CUDNN_STATUS_ALLOC_FAILED"), "cuDNN could not start", "versions"),
        (RuntimeError("cudaErrorInsufficientDriver: ..."), "driver is missing or older", "upgrade"),
        (RuntimeError("cudaErrorNoDevice"), "CUDA finds no GPU", "CUDA_VISIBLE_DEVICES"),
        (RuntimeError("cudaErrorIllegalAddress"), "outside its arrays", "compute-sanitizer"),
        (RuntimeError("cudaErrorMemoryAllocation"), "the GPU's memory is full", "smaller batch"),
        (RuntimeError("RESOURCE_EXHAUSTED: OOM"), "the device's memory is full", "smaller batch"),
        (MemoryError("Unable to allocate 8.00 EiB"), "the machine's memory", "smaller batch"),
    ],
)  # fmt: skip
def test_known_failures(error: Exception, reason: str, remedy: str) -> None:
    failure = explain(error)
    assert failure.kind == type(error).__name__
    assert reason in failure.reason
    assert str(error) in failure.reason
    assert remedy in failure.remedy


def test_an_unknown_failure_keeps_its_words() -> None:
    failure = explain(ValueError("the cat\nsat on it"))
    assert failure.reason == "ValueError: the cat sat on it"
    assert failure.remedy == ""
    assert explain(ValueError()).reason == "ValueError: no message"


def test_a_long_message_keeps_both_ends() -> None:
    reason = explain(ValueError("start " + "x" * 10_000 + " end")).reason
    assert len(reason) < 600
    assert "start" in reason
    assert reason.endswith("end")


def test_ends_of_processes() -> None:
    killed = explain_exit(-9, "")
    assert killed.kind == "killed by SIGKILL"
    assert "memory was full" in killed.remedy
    crashed = explain_exit(-11, "Fatal Python error: Segmentation fault")
    assert "SIGSEGV" in crashed.reason
    assert "Fatal Python error" in crashed.reason
    assert explain_exit(7, "").kind == "exit status 7"
    assert "cuBLAS" in explain_exit(1, "E0000 failed to create cublas handle").reason
    assert explain_exit(-200, "").kind == "killed by signal 200"
    assert "within 3 s" in explain_timeout(3).reason
