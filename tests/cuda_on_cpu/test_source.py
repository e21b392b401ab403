"""What a .cu file says about its kernels is understood, or refused with a reason."""

import numpy as np
import pytest

from cuda_on_cpu import CpuModule, KernelError, kernel_names, nvrtc, why_not
from cuda_on_cpu.source import for_cpu, kernels

KERNELS = """
// __global__ void in_a_comment(float* x)
__global__ void plain(float* x, int n) {}

template <typename T>
__global__ void both_types(T* x) {}

// instances: <float, 3>; <double, -3>
template <typename T, int K>
__global__ void __launch_bounds__(256) listed(const T* __restrict__ x /* C, (H + 1) * 2, N */, T* y /* O or null */,
                                              int C /* or null, but no pointer */) {}

constexpr int THREADS = 64;
// instances: <true>
template <bool DEEP> __global__ void __launch_bounds__(THREADS, 2) on_one_line(long long* x /* N */) {}
"""


@pytest.fixture
def written(tmp_path):
    """written(text): a .cu file with this text."""

    def write(text, name="kernel.cu"):
        (tmp_path / name).write_text(text, encoding="utf-8")
        return tmp_path / name

    return write


def test_names_of_all_instances(written):
    assert kernel_names(written(KERNELS)) == [
        *("plain", "both_types<float>", "both_types<double>"),
        *("listed<float, 3>", "listed<double, -3>", "on_one_line<true>"),
    ]


def test_parameters_and_bounds(written):
    plain, _, listed, on_one_line = kernels(written(KERNELS))
    assert plain.parameters == ["float* x", "int n"]
    assert [listed.may_be_null(i) for i in range(3)] == [False, True, False]
    assert len(listed.parameters) == 3
    assert (plain.most_threads, listed.most_threads, on_one_line.most_threads) == (None, 256, None)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("template <typename T, int K>\n__global__ void k(T* x) {}", "k is a template <typename T, int K>: expected a"),
        ("// instances: <float, 3>\n\ntemplate <int K>\nvoid f() {}", "does not stand directly above a kernel"),
        ("// instances: <float>\n__global__ void k(float* x) {}", "k has a line of instances and is no template"),
        ("// instances: float\ntemplate <typename T>\n__global__ void k(T* x) {}", r"got \['float'\]"),
        ("__global__ void seen(float* x) {}\n__global__\nstatic void unseen() {}", r"of 2 I understand \['seen'\]"),
    ],
)
def test_a_kernel_that_is_not_understood_is_refused(written, text, message):
    with pytest.raises(ValueError, match=rf"kernel\.cu: .*{message}"):
        kernel_names(written(text))


@pytest.mark.parametrize(
    ("line", "becomes"),
    [
        ("  __shared__ float x;", "cuda_on_cpu::shared_array<float>(&x_declaration);"),
        ("__shared__ T x[A][2 * B + 1];", "cuda_on_cpu::shared_array<T[A][2 * B + 1]>(&x_declaration);"),
        ("__shared__ __align__(16) unsigned int x[4];", "shared_array<unsigned int[4]>(&x_declaration, 16);"),
        (
            "extern __shared__ __align__(16) unsigned char shared[];",
            "unsigned char* const shared = cuda_on_cpu::dynamic_shared<unsigned char>(16);",
        ),
        ("// __shared__ in a comment /* or", "// __shared__ in a comment /* or"),
    ],
)
def test_shared_declarations(written, line, becomes):
    text = for_cpu(written(f"void f()\n{{\n{line}  // why\n}}\n"))
    assert text.splitlines()[0].startswith("#line 1 ")
    assert becomes in text.splitlines()[3]
    assert len(text.splitlines()) == 6


@pytest.mark.parametrize(
    "line", ["__shared__ float a[2], b[2];", "float __shared__ a[2];", "{ __shared__ float a[2]; }"]
)
def test_a_shared_declaration_that_is_not_understood_is_refused(written, line):
    with pytest.raises(ValueError, match=r"kernel\.cu, line 2: expected `__shared__ T name\[..\];`"):
        for_cpu(written(f"\n{line}\n"))


def test_errors_name_the_line_of_the_source(written, tmp_path):
    if reason := why_not():
        pytest.skip(reason)
    written(
        "#pragma once\n\n__device__ inline int f(float x)\n{\n    __shared__ int y[2];\n    return z;\n}\n", "f.cuh"
    )
    source = written('#include "f.cuh"\n__global__ void k(float* x /* 1 */)\n{\n    x[0] = f(q);\n}\n')
    with pytest.raises(KernelError) as error:
        CpuModule(source, tmp_path)
    assert f"{tmp_path}/f.cuh:6:" in str(error.value)
    assert f"{tmp_path}/kernel.cu:4:" in str(error.value)


def test_headers_come_from_both_folders(tmp_path):
    if reason := why_not():
        pytest.skip(reason)
    for name, text in {
        "kernels/one.cuh": "constexpr int ONE = 1;\n",
        "tests/two.cuh": '#include "one.cuh"\nconstexpr int TWO = ONE + 1;\n',
        "tests/k.cu": '#include "two.cuh"\n__global__ void k(int* x /* 1 */) { x[0] = ONE + TWO; }\n',
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    out = np.zeros(1, np.int32)
    CpuModule(tmp_path / "tests/k.cu", tmp_path, tmp_path / "kernels").get_function("k")((1,), (1,), (out,))
    assert out == 3
    if compiler := nvrtc.find_compiler():
        newest = compiler.architectures()[-1]
        assert nvrtc.symbol("k") in compiler.cubin(tmp_path / "tests/k.cu", ["k"], newest, tmp_path / "kernels")


def test_symbols_of_instances(written):
    assert nvrtc.symbol("k") == b"_Z1k"
    assert nvrtc.symbol("k<float>") == b"_Z1kIfE"
    assert nvrtc.symbol("pool<double, 3, true>") == b"_Z4poolIdLi3ELb1EE"
    assert nvrtc.symbol("k<float, MODE, 3>") == b"_Z1kIf"
    compiler = nvrtc.find_compiler()
    if compiler is None:
        pytest.skip("compiling for GPUs needs NVRTC or nvcc; neither found")
    source = written(KERNELS.replace(" x,", " /* 1 */ x,"))
    for name in kernel_names(source):
        assert nvrtc.symbol(name) in compiler.cubin(source, kernel_names(source), compiler.architectures()[-1])


# more numbers at once than the 64 registers of each of 1024 threads
TOO_MANY = """
__global__ void __launch_bounds__(1024) k(volatile float* x /* 96, 1024 */)
{
    float values[96];
    #pragma unroll
    for (int i = 0; i < 96; i++) values[i] = x[i * 1024 + threadIdx.x];
    #pragma unroll
    for (int i = 0; i < 96; i++) x[i * 1024 + threadIdx.x] = values[95 - i];
}
"""


def test_what_does_not_fit_the_registers_is_an_error_where_asked_for(written):
    compiler = nvrtc.find_compiler()
    if compiler is None:
        pytest.skip("compiling for GPUs needs NVRTC or nvcc; neither found")
    source = written(TOO_MANY)
    assert compiler.cubin(source, ["k"], 90)
    assert compiler.cubin(source, ["k"], 90, spills=1000)
    with pytest.raises(nvrtc.CompileError, match=r"spilled to local memory .* [0-9]+ bytes spill stores"):
        compiler.cubin(source, ["k"], 90, spills=8, more={"other": 1000})
    assert compiler.cubin(source, ["k"], 90, spills=8, more={"k": 1000})
    assert compiler.cubin(written(KERNELS), ["plain"], 90, spills=0)


def test_a_file_for_newer_gpus_only(written):
    compiler = nvrtc.find_compiler()
    if compiler is None:
        pytest.skip("compiling for GPUs needs NVRTC or nvcc; neither found")
    assert compiler.architectures() == compiler.architectures(written("__global__ void k() {}\n"))
    assert min(compiler.architectures(written("// for tensor cores\n// needs sm_80\n"))) == 80
    if isinstance(compiler, nvrtc.Nvrtc):
        said = compiler.usage(written(KERNELS), ["plain", "listed<float, 3>"], 80)
        assert list(said) == ["plain", "listed<float, 3>"]
        assert all("spill stores" in words and "registers" in words for words in said.values())
