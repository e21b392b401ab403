// Correct, but for a warning: a compiler that lets this pass would let the warnings of a real kernel pass.

__global__ void warns(float* out)
{
    int unused;
    out[threadIdx.x] = 1;
}
