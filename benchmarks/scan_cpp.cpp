// The selective scan in C++ with OpenMP, for benchmarks/scan.py only: what a compiler makes of the same plan as
// ctmem/scan_numba.py. Layouts: u, delta, dy (b, L, d); A, rates (n, d); B, C (b, L, n); starts (chunks, b, n, d).
// d must be a multiple of WIDTH. The benchmark builds it.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

constexpr int WIDTH = 32;  // channels walked together
constexpr int CHUNK = 32;  // steps between two kept states

static inline float exp2_fast(float x) {
    x = x < -126.f ? -126.f : x;
    x = x > 128.f ? 128.f : x;
    float whole = std::floor(x + 0.5f), f = x - whole;
    float p = 1.5353362e-4f;
    p = p * f + 1.3398874e-3f;
    p = p * f + 9.6184373e-3f;
    p = p * f + 5.5503324e-2f;
    p = p * f + 2.4022648e-1f;
    p = p * f + 6.9314720e-1f;
    p = p * f + 1.0f;
    int32_t bits = (int32_t(whole) + 127) << 23;
    float scale;
    std::memcpy(&scale, &bits, 4);
    return p * scale;
}

extern "C" void scan_forward(const float* u, const float* delta, const float* rates, const float* B, const float* C,
                             float* y, float* starts, long b, long L, long d, long n) {
#pragma omp parallel for collapse(2) schedule(dynamic)
    for (long i = 0; i < b; i++)
        for (long c = 0; c < d; c += WIDTH) {
            std::vector<float> h(n * WIDTH, 0.f);
            float step[WIDTH], x[WIDTH], total[WIDTH];
            for (long t = 0; t < L; t++) {
                const long at = (i * L + t) * d + c;
                if (t % CHUNK == 0)
                    for (long s = 0; s < n; s++)
                        std::memcpy(starts + ((t / CHUNK * b + i) * n + s) * d + c, &h[s * WIDTH], WIDTH * 4);
                for (int j = 0; j < WIDTH; j++) {
                    step[j] = delta[at + j];
                    x[j] = step[j] * u[at + j];
                    total[j] = 0.f;
                }
                for (long s = 0; s < n; s++) {
                    const float Bs = B[(i * L + t) * n + s], Cs = C[(i * L + t) * n + s];
                    const float* r = rates + s * d + c;
                    float* hs = &h[s * WIDTH];
                    for (int j = 0; j < WIDTH; j++) {
                        hs[j] = exp2_fast(step[j] * r[j]) * hs[j] + x[j] * Bs;
                        total[j] += hs[j] * Cs;
                    }
                }
                std::memcpy(y + at, total, WIDTH * 4);
            }
        }
}

// dB and dC: (d / WIDTH, b, L, n), one sum per block of channels; dA: (b, n, d).
extern "C" void scan_backward(const float* u, const float* delta, const float* A, const float* rates, const float* B,
                              const float* C, const float* dy, const float* starts, float* du, float* ddelta,
                              float* dA, float* dB, float* dC, long b, long L, long d, long n) {
#pragma omp parallel for collapse(2) schedule(dynamic)
    for (long i = 0; i < b; i++)
        for (long c = 0; c < d; c += WIDTH) {
            std::vector<float> h((CHUNK + 1) * n * WIDTH), decay(CHUNK * n * WIDTH), carried(n * WIDTH, 0.f);
            std::vector<float> dA_chunk(n * WIDTH);
            std::vector<double> dA_total(n * WIDTH, 0.);
            float step[WIDTH], x[WIDTH], dx[WIDTH], dstep[WIDTH];
            for (long k = (L - 1) / CHUNK; k >= 0; k--) {
                const long first = k * CHUNK, steps = std::min<long>(CHUNK, L - first);
                for (long s = 0; s < n; s++)
                    std::memcpy(&h[s * WIDTH], starts + ((k * b + i) * n + s) * d + c, WIDTH * 4);
                std::fill(dA_chunk.begin(), dA_chunk.end(), 0.f);
                for (long q = 0; q < steps; q++) {
                    const long row = i * L + first + q, at = row * d + c;
                    for (int j = 0; j < WIDTH; j++) x[j] = delta[at + j] * u[at + j];
                    for (long s = 0; s < n; s++) {
                        const float Bs = B[row * n + s];
                        const float *r = rates + s * d + c, *before = &h[(q * n + s) * WIDTH];
                        float *e = &decay[(q * n + s) * WIDTH], *after = &h[((q + 1) * n + s) * WIDTH];
                        for (int j = 0; j < WIDTH; j++) {
                            e[j] = exp2_fast(delta[at + j] * r[j]);
                            after[j] = e[j] * before[j] + x[j] * Bs;
                        }
                    }
                }
                for (long q = steps - 1; q >= 0; q--) {
                    const long row = i * L + first + q, at = row * d + c;
                    const float* g = dy + at;
                    for (int j = 0; j < WIDTH; j++) {
                        step[j] = delta[at + j];
                        x[j] = step[j] * u[at + j];
                        dx[j] = dstep[j] = 0.f;
                    }
                    for (long s = 0; s < n; s++) {
                        const float Bs = B[row * n + s], Cs = C[row * n + s];
                        const float *a = A + s * d + c, *before = &h[(q * n + s) * WIDTH];
                        const float *after = before + n * WIDTH, *e = &decay[(q * n + s) * WIDTH];
                        float *carry = &carried[s * WIDTH], *sum_A = &dA_chunk[s * WIDTH];
                        float sum_B = 0.f, sum_C = 0.f;
#pragma omp simd reduction(+ : sum_B, sum_C)
                        for (int j = 0; j < WIDTH; j++) {
                            const float dh = carry[j] + Cs * g[j];
                            sum_C += after[j] * g[j];
                            sum_B += dh * x[j];
                            dx[j] += dh * Bs;
                            carry[j] = dh * e[j];
                            const float exponent = carry[j] * before[j];
                            dstep[j] += exponent * a[j];
                            sum_A[j] += exponent * step[j];
                        }
                        dB[((c / WIDTH) * b * L + row) * n + s] = sum_B;
                        dC[((c / WIDTH) * b * L + row) * n + s] = sum_C;
                    }
                    for (int j = 0; j < WIDTH; j++) {
                        du[at + j] = dx[j] * step[j];
                        ddelta[at + j] = dstep[j] + dx[j] * u[at + j];
                    }
                }
                for (size_t m = 0; m < dA_total.size(); m++) dA_total[m] += dA_chunk[m];
            }
            for (long s = 0; s < n; s++)
                for (int j = 0; j < WIDTH; j++) dA[(i * n + s) * d + c + j] = float(dA_total[s * WIDTH + j]);
        }
}
