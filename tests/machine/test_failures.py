"""Known messages become words; unknown ones are kept."""

from __future__ import annotations

import os

import numpy as np
import pytest

import convbench
from convbench.machine import failures, nvidia
from convbench.machine.catalogue import When
from convbench.machine.failures import explain, explain_exit, explain_timeout, note_success
from convbench.machine.nvidia import memory_in_words

from .test_facts import CARD, plant_driver


@pytest.fixture(autouse=True)
def no_card(monkeypatch):
    """Whatever the machine has, there is no driver unless a test plants it."""
    monkeypatch.setattr(nvidia, "has_nvidia_driver", lambda root="/": False)
    monkeypatch.setitem(failures._here, "when", When.START)


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


def kind(name):
    return type(name, (Exception,), {})


# What the libraries write, word for word: from their issue trackers.
REAL = [
    (
        kind("RuntimeError"),
        "CuPy failed to load libnvrtc.so.12: OSError: libnvrtc.so.12: cannot open shared object"
        " file: No such file or directory",
        "a library of CUDA's is missing",
        "LD_LIBRARY_PATH",
    ),
    (
        ImportError,
        "libcudart.so.12: cannot open shared object file: No such file or directory",
        "another major version",
        "cupy-gpu",
    ),
    (
        ImportError,
        "libcublas.so.12: cannot open shared object file: No such file or directory",
        "a library of CUDA's is missing",
        "tensorflow-gpu",
    ),
    (
        kind("CompileException"),
        "nvrtc: error: failed to load builtins",
        "a library of CUDA's is missing",
        "pip install",
    ),
    (
        kind("DynamicLibNotFoundError"),
        'Failure finding "libnvrtc.so": No such file: libnvrtc.so*',
        "a library of CUDA's is missing",
        "pip install",
    ),
    (
        kind("InternalError"),
        "Loaded runtime CuDNN library: 9.1.0 but source was compiled with: 9.3.0.  CuDNN library"
        " needs to have matching major version and equal or higher minor version.",
        "cuDNN has another version",
        "pip install",
    ),
    (
        kind("CUDARuntimeError"),
        "cudaErrorInsufficientDriver: CUDA driver version is insufficient for CUDA runtime version",
        "driver is missing or older",
        "upgrade the driver",
    ),
    (
        ImportError,
        "libcuda.so.1: cannot open shared object file: No such file or directory",
        "driver is missing or older",
        "Install",
    ),
    (
        kind("CUDARuntimeError"),
        "cudaErrorSystemDriverMismatch: system has unsupported display driver / cuda driver"
        " combination",
        "have two versions",
        "Restart the machine",
    ),
    (
        kind("CUDADriverError"),
        "CUDA_ERROR_UNSUPPORTED_PTX_VERSION: the provided PTX was compiled with an unsupported"
        " toolchain.",
        "newer than the NVIDIA driver knows",
        "Upgrade the driver",
    ),
    (
        kind("CUDARuntimeError"),
        "cudaErrorNoKernelImageForDevice: no kernel image is available for execution on the device",
        "no kernels for this model of card",
        "compute_cap",
    ),
    (
        kind("CompileException"),
        "nvrtc: error: invalid value for --gpu-architecture (-arch)",
        "no kernels for this model of card",
        "compute_cap",
    ),
    (
        kind("CompileException"),
        "/tmp/tmpqd2yk1/0f1c.cubin.cu(7): catastrophic error: cannot open source file"
        ' "cuda_fp16.h"\n\n1 catastrophic error detected in the compilation of "0f1c.cubin.cu".',
        "headers or libdevice were not found",
        "CUDA_PATH",
    ),
    (
        kind("InternalError"),
        "libdevice not found at ./libdevice.10.bc [Op:__inference_run_12]",
        "headers or libdevice were not found",
        "CUDA_PATH",
    ),
    (
        kind("CompileException"),
        '/tmp/tmpa1b2/9c.cubin.cu(14): error: identifier "threadIdz" is undefined\n\n1 error'
        ' detected in the compilation of "/tmp/tmpa1b2/9c.cubin.cu".',
        "could not be compiled",
        "fault of the backend",
    ),
    (
        kind("NVRTCError"),
        "NVRTC_ERROR_COMPILATION (6)",
        "could not be compiled",
        "kernel_cache",
    ),
    (
        kind("CUDARuntimeError"),
        "cudaErrorInitializationError: initialization error",
        "forked",
        "spawn",
    ),
    (
        kind("CUDARuntimeError"),
        "cudaErrorDevicesUnavailable: CUDA-capable device(s) is/are busy or unavailable",
        "lets nobody in",
        "compute_mode",
    ),
    (
        kind("CUDNNError"),
        "CUDNN_STATUS_NOT_INITIALIZED",
        "cuDNN could not start",
        "smaller batch",
    ),
    (
        RuntimeError,
        "cudnnHandle Create failed cudaGetDeviceCount(&count) != cudaSuccess",
        "cuDNN could not start",
        "driver versions",
    ),
    (
        RuntimeError,
        "detail::finalize(desc) failed with message: ptrDesc->finalize(), and code:"
        " CUDNN_STATUS_SUBLIBRARY_LOADING_FAILED",
        "a library of CUDA's is missing",
        "LD_LIBRARY_PATH",
    ),
    (
        kind("OutOfMemoryError"),
        "Out of memory allocating 8,589,934,592 bytes (allocated so far: 512 bytes).",
        "the GPU's memory is full",
        "smaller batch",
    ),
    (
        kind("ResourceExhaustedError"),
        "OOM when allocating tensor with shape[16,112,112,147] and type float on"
        " /job:localhost/replica:0/task:0/device:GPU:0 by allocator GPU_0_bfc [Op:Conv2D]",
        "the GPU's memory is full",
        "nvidia-smi",
    ),
    (
        OSError,
        "[Errno 28] No space left on device: '.asv/evidence/1.jsonl'",
        "a disk is full",
        "df -h",
    ),
    (
        OSError,
        "[Errno 24] Too many open files: '/proc/self/status'",
        "no more files",
        "ulimit -n",
    ),
]


@pytest.mark.parametrize(("error", "message", "reason", "remedy"), REAL)
def test_real_messages(error, message: str, reason: str, remedy: str) -> None:
    failure = explain(error(message))
    assert reason in failure.reason
    assert remedy in failure.remedy
    assert not failure.process_lost


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ("cudaErrorIllegalAddress: an illegal memory access was encountered", "outside its arrays"),
        ("CUDA_ERROR_LAUNCH_FAILED: unspecified launch failure", "outside its arrays"),
        ("cudaErrorMisalignedAddress: misaligned address", "outside its arrays"),
        ("cudaErrorAssert: device-side assert triggered", "broke another rule"),
        ("CUDA_ERROR_CONTEXT_IS_DESTROYED: context is destroyed", "context is lost"),
        ("CUDA_ERROR_ECC_UNCORRECTABLE: uncorrectable ECC error encountered", "its hardware"),
        ("cudaErrorLaunchTimeout: the launch timed out and was terminated", "with a display"),
    ],
)
def test_what_the_context_does_not_survive(message: str, reason: str) -> None:
    failure = explain(kind("CUDARuntimeError")(message))
    assert reason in failure.reason
    assert failure.process_lost


def test_a_message_about_the_loader_is_not_about_memory() -> None:
    message = "libgomp.so.1: cannot allocate memory in static TLS block"
    told = explain(ImportError(message))
    assert "memory has nothing to do with it" in told.reason
    assert "Import it first" in told.remedy


# -- what nvidia-smi says --------------------------------------------------------------------------

FULL = CARD | {"memory_free_mib": 812}
HOLDER = (4711, "GPU-0", 79800, "/usr/bin/python")
FACTS = "Now 812 of 81559 MiB are free on card 0 (NVIDIA H100 80GB HBM3); held by 4711 python"


@pytest.mark.parametrize(
    "error",
    [
        InternalError("Blas SGEMM launch failed : m=1, n=6, k=75"),
        kind("CUBLASError")("CUBLAS_STATUS_NOT_INITIALIZED"),
        kind("CUBLASError")("CUBLAS_STATUS_ALLOC_FAILED"),
        kind("CUDNNError")("CUDNN_STATUS_ALLOC_FAILED"),
        kind("CUDNNError")("CUDNN_STATUS_NOT_INITIALIZED"),
        InternalError("CUDA_ERROR_OUT_OF_MEMORY: out of memory"),
        kind("OutOfMemoryError")("Out of memory allocating 4,096 bytes (allocated so far: 0)."),
        InternalError("RESOURCE_EXHAUSTED: Out of memory while trying to allocate 17179869184 B"),
    ],
)
def test_where_there_is_a_card_its_memory_is_told(error, tmp_path, monkeypatch) -> None:
    plant_driver(tmp_path, monkeypatch, [FULL], [HOLDER])
    remedy = explain(error).remedy
    assert "end that process" in remedy
    assert remedy.endswith(f"{FACTS} 79800 MiB.")


def test_of_a_process_that_died_too(tmp_path, monkeypatch) -> None:
    plant_driver(tmp_path, monkeypatch, [FULL], [HOLDER])
    failure = explain_exit(-6, "E0000 failed to create cublas handle: the resource ...")
    assert failure.remedy.endswith(f"{FACTS} 79800 MiB.")


def test_every_card_and_its_largest_holders_are_named(tmp_path, monkeypatch) -> None:
    other = CARD | {"index": 1, "uuid": "GPU-1"}
    small = [(pid, "GPU-0", pid, "worker") for pid in range(1, 7)]
    mine = (os.getpid(), "GPU-1", None, None)
    plant_driver(tmp_path, monkeypatch, [FULL, other], [*small, HOLDER, mine])
    remedy = explain(RuntimeError("CUDA_ERROR_OUT_OF_MEMORY")).remedy
    assert f"{FACTS} 79800 MiB, 6 worker 6 MiB, 5 worker 5 MiB" in remedy
    assert "3 worker 3 MiB, 2 more. 81037 of 81559 MiB are free on card 1" in remedy
    assert remedy.endswith(f"held by {os.getpid()} ? (this process).")


def test_a_holder_that_cannot_be_seen(tmp_path, monkeypatch) -> None:
    plant_driver(tmp_path, monkeypatch, [FULL], [])
    remedy = explain(RuntimeError("CUBLAS_STATUS_ALLOC_FAILED")).remedy
    assert remedy.endswith("; the process that holds it cannot be seen from here"
                           " (another container?).")  # fmt: skip
    plant_driver(tmp_path, monkeypatch, [CARD], [])
    remedy = explain(RuntimeError("CUBLAS_STATUS_ALLOC_FAILED")).remedy
    assert remedy.endswith("81037 of 81559 MiB are free on card 0 (NVIDIA H100 80GB HBM3).")


def test_a_card_that_does_not_tell_its_memory(tmp_path, monkeypatch) -> None:
    plant_driver(tmp_path, monkeypatch, [CARD | {"memory_free_mib": None}], [HOLDER])
    assert explain(RuntimeError("CUDA_ERROR_OUT_OF_MEMORY")).remedy.endswith("a smaller batch.")
    assert memory_in_words([], []) == ""


def test_a_full_machine_is_not_a_full_card(tmp_path, monkeypatch) -> None:
    on_cpu = kind("ResourceExhaustedError")(
        "OOM when allocating tensor with shape[16,19,19,1024] and type float on"
        " /job:localhost/replica:0/task:0/device:CPU:0 by allocator cpu [Op:Conv2D]"
    )
    of_xla = RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 17179869184 bytes.")
    for error in (on_cpu, of_xla):
        told = explain(error)
        assert "memory is full" in told.reason
        assert "smaller batch" in told.remedy
        assert not any(word in told.remedy for word in ("card", "nvidia", "CUDA"))
    plant_driver(tmp_path, monkeypatch, [FULL], [HOLDER])
    assert "card" not in explain(on_cpu).remedy
    assert FACTS in explain(of_xla).remedy


def test_a_card_is_asked_only_where_it_matters(monkeypatch) -> None:
    def asked():
        raise AssertionError

    monkeypatch.setattr(nvidia, "gpus", asked)
    monkeypatch.setattr(nvidia, "gpu_processes", asked)
    for error in (ValueError("no"), MemoryError("Unable to allocate 8.00 EiB"), OSError(28, "x")):
        explain(error)
    explain_exit(-9, "")


# -- the rest --------------------------------------------------------------------------------------


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
    assert "AVX" in explain_exit(-4, "").reason
    assert "divided by zero" in explain_exit(-8, "").reason
    assert explain_exit(7, "").kind == "exit status 7"
    assert "cuBLAS" in explain_exit(1, "E0000 failed to create cublas handle").reason
    assert explain_exit(-200, "").kind == "killed by signal 200"
    assert "within 3 s" in explain_timeout(3).reason


# -- at the first use, or after others had worked --------------------------------------------------

LAUNCH = InternalError("Blas SGEMM launch failed : m=1, n=6, k=75")


def test_what_fails_after_others_had_worked_could_start() -> None:
    assert "could not start" in explain(LAUNCH).reason
    note_success()
    later = explain(LAUNCH)
    assert "could not start" not in later.reason
    assert "after others had worked" in later.reason
    assert "xid" in later.remedy
    assert explain(LAUNCH, When.START).reason != later.reason == explain(LAUNCH, When.MIDDLE).reason


def test_whatever_is_computed_is_remembered() -> None:
    pool = convbench.PipelineSpec(1, 2, 2, 1, pool=convbench.PoolSpec("max", 2))
    convbench.run(pool, np.ones((1, 2, 2, 1), "float32"))
    assert "It could start" in explain(LAUNCH).reason


def test_a_process_that_had_answered_could_start() -> None:
    said = "failed to run cuBLAS routine cublasSgemm_v2: CUBLAS_STATUS_EXECUTION_FAILED"
    assert "At the first use" in explain_exit(-6, said).reason
    assert "It could start" in explain_exit(-6, said, worked=True).reason


def test_what_came_first_is_the_reason_and_not_what_came_of_it() -> None:
    said = (
        "Could not find cuda drivers on your machine, GPU will not be used.\n"
        "Loaded runtime CuDNN library: 8.5.0 but source was compiled with: 8.6.0.\n"
        "FAILED_PRECONDITION: DNN library initialization failed.\nAborted (core dumped)\n"
    )
    assert explain_exit(-6, said).reason.startswith("cuDNN has another version")
    assert explain(RuntimeError(said)).reason.startswith("cuDNN has another version")


def test_what_is_harmless_is_no_reason() -> None:
    said = "This TensorFlow binary is optimized to use available CPU instructions"
    assert explain(ValueError(said)).remedy == ""
    assert "SIGKILL" in explain_exit(-9, said).reason
