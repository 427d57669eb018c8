// A whole pipeline (convolution, bias, pool) as one kernel, each output by one thread.
//
// Any stage may be absent, so the same kernel is a convolution, a pool, or all of it at once. It
// takes any stride, padding, dilation and groups, and has no fast way for a large dense layer:
// that is for a matrix product. Where a pool's windows overlap, what they share is computed again.
//
// Plain CUDA C++ without a header, so that tests/cuda_on_cpu.h can compile it, as it is, for a CPU:
// what the tests run is what a card runs.

struct Spec {  // in the order of cuda_kernels.spec_of
    int n, h, w, c;  // the input
    int p, q, k;     // what the pool reads: the output of the convolution and the bias
    int high, wide;  // the output
    int r, s;        // taps of the filter; 0 without a convolution
    int stride_h, stride_w, dilation_h, dilation_w, top, left;
    int depth, filters;  // input channels and output channels of one group
    int bias;            // whether there is one
    int pool;            // 0 none, 1 maximum, 2 average
    int pool_r, pool_s;
    int pool_stride_h, pool_stride_w, pool_dilation_h, pool_dilation_w, pool_top, pool_left;
    // Rows and columns from .. to (exclusive) that an average is divided by, padding among them
    // where it counts.
    int rows_from, rows_to, columns_from, columns_to;
    int divisor;  // what an average is divided by instead; 0 for what counts
};

// -- Arithmetic that keeps denormal numbers. -------------------------------------------------------
//
// CuPy compiles with -ftz=true, which takes every denormal float for a zero and which no option can
// take back: the last one counts, and that is CuPy's. An instruction that is written out, without
// its suffix .ftz, is not touched by it. Doubles are never flushed.

#ifdef __CUDA_ARCH__
#define FLOATS(instruction, a, b)                                             \
    float y;                                                                  \
    asm(instruction ".f32 %0, %1, %2;" : "=f"(y) : "f"(a), "f"(b));           \
    return y
static __device__ float sum_of(float a, float b) { FLOATS("add.rn", a, b); }
static __device__ float product_of(float a, float b) { FLOATS("mul.rn", a, b); }
static __device__ float quotient_of(float a, float b) { FLOATS("div.rn", a, b); }
static __device__ float add_product(float sum, float a, float b) {
    asm("fma.rn.f32 %0, %1, %2, %0;" : "+f"(sum) : "f"(a), "f"(b));
    return sum;
}
static __device__ bool is_above(float a, float b) {
    int above;
    asm("{ .reg .pred p; setp.gt.f32 p, %1, %2; selp.s32 %0, 1, 0, p; }"
        : "=r"(above) : "f"(a), "f"(b));
    return above;
}
#else  // the tests' CPU, which does not flush
static __device__ float sum_of(float a, float b) { return a + b; }
static __device__ float product_of(float a, float b) { return a * b; }
static __device__ float quotient_of(float a, float b) { return a / b; }
static __device__ float add_product(float sum, float a, float b) { return sum + a * b; }
static __device__ bool is_above(float a, float b) { return a > b; }
#endif
static __device__ double sum_of(double a, double b) { return a + b; }
static __device__ double quotient_of(double a, double b) { return a / b; }
static __device__ double add_product(double sum, double a, double b) { return sum + a * b; }
static __device__ bool is_above(double a, double b) { return a > b; }

// -- Formats: how a number is stored, and the wider type that it is computed in. -------------------

union Bits {
    float value;
    unsigned int bits;
};

struct Float32 {
    typedef float Stored;
    typedef float Wide;
    static __device__ float load(float x) { return x; }
    static __device__ float store(float x) { return x; }
};

struct Float64 {
    typedef double Stored;
    typedef double Wide;
    static __device__ double load(double x) { return x; }
    static __device__ double store(double x) { return x; }
};

struct BFloat16 {
    typedef unsigned short Stored;
    typedef float Wide;
    static __device__ float load(unsigned short x) {
        Bits wide;
        wide.bits = (unsigned int)x << 16;
        return wide.value;
    }
    static __device__ unsigned short store(float x) {
        Bits wide;
        wide.value = x;
        if (x != x) return (unsigned short)(wide.bits >> 16 | 0x40u);
        return (unsigned short)((wide.bits + 0x7fffu + (wide.bits >> 16 & 1u)) >> 16);
    }
};

struct Float16 {
    typedef unsigned short Stored;
    typedef float Wide;
    static __device__ float load(unsigned short x) {
        Bits wide, scale;
        wide.bits = (unsigned int)(x & 0x7fffu) << 13;
        scale.bits = 0x77800000u;  // 2^112 moves the exponent, of denormal numbers too, exactly
        wide.value = product_of(wide.value, scale.value);
        if ((x & 0x7c00u) == 0x7c00u) wide.bits |= 0x7f800000u;  // inf and nan
        wide.bits |= (unsigned int)(x & 0x8000u) << 16;
        return wide.value;
    }
    static __device__ unsigned short store(float x) {
        Bits wide, magic;
        wide.value = x;
        unsigned int sign = wide.bits >> 16 & 0x8000u;
        wide.bits &= 0x7fffffffu;
        unsigned int out;
        if (wide.bits > 0x7f800000u) {
            out = 0x7e00u;
        } else if (wide.bits >= 0x477ff000u) {  // rounds to 65536 and more
            out = 0x7c00u;
        } else if (wide.bits < 0x38800000u) {  // below the smallest normal number
            magic.bits = 0x3f000000u;          // 0.5, whose last bit is worth that of the smallest
            wide.value = sum_of(wide.value, magic.value);
            out = wide.bits - magic.bits;
        } else {
            out = (wide.bits - 0x38000000u + 0xfffu + (wide.bits >> 13 & 1u)) >> 13;
        }
        return (unsigned short)(sign | out);
    }
};

// -- The pipeline. ---------------------------------------------------------------------------------

// The convolution and the bias, or what there is of them, at one position.
template <class F>
__device__ typename F::Wide before_pool(const typename F::Stored *x,
                                        const typename F::Stored *filters,
                                        const typename F::Stored *bias, const Spec &spec, int n,
                                        int p, int q, int k) {
    typedef typename F::Wide Wide;
    Wide sum = 0;
    if (spec.r == 0) {
        sum = F::load(x[(((long long)n * spec.h + p) * spec.w + q) * spec.c + k]);
    } else {
        const int first = k / spec.filters * spec.depth;
        for (int r = 0; r < spec.r; ++r) {
            const int row = p * spec.stride_h - spec.top + r * spec.dilation_h;
            if (row < 0 || row >= spec.h) continue;
            for (int s = 0; s < spec.s; ++s) {
                const int column = q * spec.stride_w - spec.left + s * spec.dilation_w;
                if (column < 0 || column >= spec.w) continue;
                const typename F::Stored *pixel =
                    x + (((long long)n * spec.h + row) * spec.w + column) * spec.c + first;
                const typename F::Stored *tap =
                    filters + ((long long)r * spec.s + s) * spec.depth * spec.k + k;
                for (int c = 0; c < spec.depth; ++c) {
                    sum = add_product(sum, F::load(pixel[c]), F::load(tap[(long long)c * spec.k]));
                }
            }
        }
    }
    return spec.bias ? sum_of(sum, F::load(bias[k])) : sum;
}

template <class F>
__device__ typename F::Wide pooled(const typename F::Stored *x, const typename F::Stored *filters,
                                   const typename F::Stored *bias, const Spec &spec, int n, int p,
                                   int q, int k) {
    typedef typename F::Wide Wide;
    Wide result = 0;
    bool found = false;
    int count = 0;
    for (int r = 0; r < spec.pool_r; ++r) {
        const int row = p * spec.pool_stride_h - spec.pool_top + r * spec.pool_dilation_h;
        for (int s = 0; s < spec.pool_s; ++s) {
            const int column = q * spec.pool_stride_w - spec.pool_left + s * spec.pool_dilation_w;
            count += row >= spec.rows_from && row < spec.rows_to &&
                     column >= spec.columns_from && column < spec.columns_to;
            if (row < 0 || row >= spec.p || column < 0 || column >= spec.q) continue;
            const Wide value = before_pool<F>(x, filters, bias, spec, n, row, column, k);
            if (spec.pool == 2) {
                result = sum_of(result, value);
            } else if (!found || is_above(value, result) || value != value) {  // nan stays
                result = value;
            }
            found = true;
        }
    }
    if (spec.pool != 2) return result;
    return quotient_of(result, (Wide)(spec.divisor ? spec.divisor : count));
}

// Threads along x share a row of the output and go along its columns and channels, so that
// neighbours read and write neighbours; y goes over the rows of all images.
template <class F>
__device__ void pipeline(const typename F::Stored *x, const typename F::Stored *filters,
                         const typename F::Stored *bias, typename F::Stored *y, const Spec &spec) {
    const int across = spec.wide * spec.k;
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= across) return;
    const int q = i / spec.k, k = i % spec.k;
    for (int row = blockIdx.y; row < spec.n * spec.high; row += gridDim.y) {
        const int n = row / spec.high, p = row % spec.high;
        y[(long long)row * across + i] =
            F::store(spec.pool ? pooled<F>(x, filters, bias, spec, n, p, q, k)
                               : before_pool<F>(x, filters, bias, spec, n, p, q, k));
    }
}

#define PIPELINE(name, Format)                                                                  \
    extern "C" __global__ void pipeline_##name(                                                 \
        const Format::Stored *x, const Format::Stored *filters, const Format::Stored *bias,     \
        Format::Stored *y, const Spec *spec) {                                                  \
        pipeline<Format>(x, filters, bias, y, *spec);                                           \
    }

PIPELINE(float64, Float64)
PIPELINE(float32, Float32)
PIPELINE(float16, Float16)
PIPELINE(bfloat16, BFloat16)
