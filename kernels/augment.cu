// The pictures of a batch, cropped, mirrored, with their colours shifted, normalised: bytes in, the net's x out.
// CPU twin: tinynet/ops/augment.py.
//
//   x[c, h, w, n] = gain[c] * images[index[n], c, top[n] + h, left[n] + w'] + shift[c, n] - centre[c, h, w]
//   w' = w, or OW - 1 - w if flip[n];  0 where that lies outside of the picture
//
// The product and the sums are rounded one by one, as on the CPU: the same bits. (The twin takes shift as (N, C).) A GPU cannot raise an error for an index that is no picture's: x is NaN there.
//
// images lies picture after picture and x with the batch innermost, so threads that follow each other should read
// along a row of one picture, but write the same pixel of one picture after another. Between the two stands a tile of
// 32 columns x 32 pictures of shared memory, written in rows and read in columns; a row of it has 33 floats, so that
// the 32 threads that read a column meet 32 different banks.
//
// Block: (32, 8), exactly. Grid: (OW / 32, N / 32, C * OH), both quotients rounded up, exactly. Shared memory: 4224
// bytes. Bytes of DRAM per float of x: 1 read (32 neighbours seldom begin where a sector does: up to 2), 4 written.

using index_t = long long;

constexpr int TILE = 32;
constexpr int ROWS = 8;  // of a tile, that a block takes at a time

// Four blocks at a time on a multiprocessor: left to itself, the compiler spills.
__global__ void __launch_bounds__(256, 4)
    crops(const unsigned char* __restrict__ images /* M, C, H, W */, const long long* __restrict__ index /* N */,
          const long long* __restrict__ top /* N */, const long long* __restrict__ left /* N */,
          const unsigned char* __restrict__ flip /* N */, const float* __restrict__ gain /* C */,
          const float* __restrict__ shift /* C, N */, const float* __restrict__ centre /* C, OH, OW */,
          float* __restrict__ x /* C, OH, OW, N */, int M, int C, int H, int W, int OH, int OW, int N)
{
    __shared__ float pixels[TILE * (TILE + 1)];  // (pictures, columns): 0 to 255; -1: outside; NaN: no such picture
    const int first_w = blockIdx.x * TILE, first_n = blockIdx.y * TILE;
    const int c = blockIdx.z / OH, h = blockIdx.z % OH;

    const int w = first_w + threadIdx.x;
    for (int row = threadIdx.y; row < TILE; row += ROWS) {
        const int n = first_n + row;
        if (w >= OW || n >= N) continue;
        const index_t picture = index[n], from_h = top[n] + h, from_w = left[n] + (flip[n] ? OW - 1 - w : w);
        float pixel = -1;
        if (picture < 0 || picture >= M)
            pixel = nanf("");
        else if (0 <= from_h && from_h < H && 0 <= from_w && from_w < W)
            pixel = images[((picture * C + c) * H + from_h) * W + from_w];
        pixels[row * (TILE + 1) + threadIdx.x] = pixel;
    }
    __syncthreads();

    const int n = first_n + threadIdx.x;
    for (int column = threadIdx.y; column < TILE; column += ROWS) {
        const int to_w = first_w + column;
        if (to_w >= OW || n >= N) continue;
        const float pixel = pixels[threadIdx.x * (TILE + 1) + column];
        const index_t to = (index_t(c) * OH + h) * OW + to_w;
        const float value = __fadd_rn(__fmul_rn(pixel, gain[c]), shift[index_t(c) * N + n]);
        x[to * N + n] = pixel < 0 ? 0 : value - centre[to];
    }
}
