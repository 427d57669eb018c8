// What a kernel of one independent thread an output needs of CUDA, for a C++ compiler: the threads
// run one after the other. There is no shared memory and no barrier here, and no kernel uses one.
#define __global__
#define __device__ inline

struct Dim3 {
    unsigned int x, y, z;
};
static thread_local Dim3 threadIdx, blockIdx, blockDim, gridDim;

template <class Kernel, class... Arguments>
void on_every_thread(Dim3 grid, Dim3 block, Kernel kernel, Arguments... arguments) {
    gridDim = grid;
    blockDim = block;
    for (blockIdx.y = 0; blockIdx.y < grid.y; ++blockIdx.y)
        for (blockIdx.x = 0; blockIdx.x < grid.x; ++blockIdx.x)
            for (threadIdx.x = 0; threadIdx.x < block.x; ++threadIdx.x) kernel(arguments...);
}
