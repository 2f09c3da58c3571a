// Products of a few rows with a packed matrix: the decode step is bound by reading the matrix once, so rows share each load.
//
// A matrix [n outputs, k inputs] is packed in blocks of 64 outputs; k is a multiple of 64 (rows are padded with zeros). In each
// block the inputs run outermost, so that one pass reads memory in order. Formats:
//   F32   64 floats per input
//   BF16  pairs of inputs beside each other (VDPBF16PS)
//   I8    four inputs beside each other as unsigned bytes q + 128 (VPDPBUSD); one scale per output
//   I4    eight inputs in four bytes, low nibbles first, as q + 8; one float16 scale per output and 64 inputs
//   I8A16 as I8, with activations of 16 bits
// Activations of the integer formats are quantized per row by their largest magnitude, to 8 bits, or to 16: two planes of 8 bits,
// which a product takes as two rows, so that the second costs no further reading of the matrix. The sum of a row undoes the
// offset of the weights.
#pragma once
#include <immintrin.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>

enum Format { F32 = 0, BF16 = 1, I8 = 2, I4 = 3, I8A16 = 4 };
constexpr int planes(Format format) { return format == I8A16 ? 2 : 1; }
constexpr bool bytes(Format format) { return format == I8 || format == I8A16; }

struct Matrix {
    int n = 0, k = 0;
    Format format = F32;
    const uint8_t* data = nullptr;    // packed values
    const float* scale = nullptr;     // of bytes: per output
    const uint16_t* groups = nullptr; // I4: float16 per output of a block and group
    int blocks() const { return (n + 63) / 64; }
};

// Rows of activations in the form that a format multiplies. Planes of I8A16: row m is 256 x q[2 m] + q[2 m + 1].
struct Rows {
    int m = 0, k = 0;
    const float* f = nullptr;
    int8_t* q = nullptr;
    uint16_t* b = nullptr;
    float* scale = nullptr;            // per row
    int32_t *sum = nullptr, *group_sum = nullptr;  // per plane
};
constexpr int LEVELS = 127, FINE_LEVELS = 127 * 256;

inline size_t values_size(int n, int k, Format format) {
    size_t count = (size_t)((n + 63) / 64) * 64 * k;
    return format == F32 ? count * 4 : format == BF16 ? count * 2 : bytes(format) ? count : count / 2;
}
inline size_t scales_size(int n, int k, Format format) {
    size_t rows = (size_t)((n + 63) / 64) * 64;
    return bytes(format) ? rows * 4 : format == I4 ? rows * (k / 64) * 2 : 0;
}

inline uint16_t to_bf16(float f) {
    uint32_t u;
    memcpy(&u, &f, 4);
    return (u + 0x7fff + ((u >> 16) & 1)) >> 16;
}

// w: [n, k] row-major -> packed values, and scales behind them at values_size.
inline void pack(const float* w, int n, int k, Format format, uint8_t* out) {
    int blocks = (n + 63) / 64, groups = k / 64;
    memset(out, 0, values_size(n, k, format) + scales_size(n, k, format));
    auto at = [&](int row, int col) { return row < n ? w[(size_t)row * k + col] : 0.f; };
    uint8_t* behind = out + values_size(n, k, format);
    for (int row = 0; row < blocks * 64; row++) {
        int b = row / 64, j = row % 64;
        if (format == F32) {
            for (int c = 0; c < k; c++) ((float*)out)[((size_t)b * k + c) * 64 + j] = at(row, c);
        } else if (format == BF16) {
            for (int c = 0; c < k; c++) ((uint16_t*)out)[(((size_t)b * (k / 2) + c / 2) * 64 + j) * 2 + (c & 1)] = to_bf16(at(row, c));
        } else if (bytes(format)) {
            float top = 0;
            for (int c = 0; c < k; c++) top = std::max(top, fabsf(at(row, c)));
            float s = top > 0 ? top / 127 : 1;
            ((float*)behind)[row] = s;
            for (int c = 0; c < k; c++) out[(((size_t)b * (k / 4) + c / 4) * 64 + j) * 4 + (c & 3)] = (uint8_t)((int)lrintf(at(row, c) / s) + 128);
        } else {
            for (int g = 0; g < groups; g++) {
                float top = 0, signed_top = 0;
                for (int c = g * 64; c < g * 64 + 64; c++)
                    if (fabsf(at(row, c)) > top) top = fabsf(at(row, c)), signed_top = at(row, c);
                uint16_t half = _cvtss_sh(top > 0 ? -signed_top / 8 : 1.f, 0);  // the largest takes the level that only one sign has
                float s = _cvtsh_ss(half);
                ((uint16_t*)behind)[((size_t)b * groups + g) * 64 + j] = half;
                for (int c = g * 64; c < g * 64 + 64; c++) {
                    int q = s != 0 ? std::min(7, std::max(-8, (int)lrintf(at(row, c) / s))) : 0;
                    int quad = c / 4;
                    out[(((size_t)b * (k / 8) + quad / 2) * 64 + j) * 4 + (c & 3)] |= (uint8_t)((q + 8) << ((quad & 1) * 4));
                }
            }
        }
    }
}

// Fills rows [m0, m1) of ``a`` from its floats, as the format needs them.
inline void prepare(const Rows& a, Format format, int m0, int m1) {
    for (int m = m0; m < m1; m++) {
        const float* x = a.f + (size_t)m * a.k;
        if (format == BF16) {
            for (int c = 0; c < a.k; c += 16)
                _mm256_storeu_si256((__m256i*)(a.b + (size_t)m * a.k + c), (__m256i)_mm512_cvtneps_pbh(_mm512_loadu_ps(x + c)));
        } else if (format >= I8) {
            __m512 top = _mm512_setzero_ps();
            for (int c = 0; c < a.k; c += 16) top = _mm512_max_ps(top, _mm512_abs_ps(_mm512_loadu_ps(x + c)));
            float largest = _mm512_reduce_max_ps(top), s = largest > 0 ? largest / (planes(format) == 2 ? FINE_LEVELS : LEVELS) : 1;
            __m512 inverse = _mm512_set1_ps(1 / s);
            a.scale[m] = s;
            if (planes(format) == 2) {
                int8_t *high = a.q + (size_t)2 * m * a.k, *low = high + a.k;
                __m512i high_sum = _mm512_setzero_si512(), low_sum = _mm512_setzero_si512();
                for (int c = 0; c < a.k; c += 16) {
                    __m512i v = _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_loadu_ps(x + c), inverse));
                    __m512i h = _mm512_srai_epi32(_mm512_add_epi32(v, _mm512_set1_epi32(128)), 8);
                    __m512i l = _mm512_sub_epi32(v, _mm512_slli_epi32(h, 8));
                    high_sum = _mm512_add_epi32(high_sum, h), low_sum = _mm512_add_epi32(low_sum, l);
                    _mm_storeu_si128((__m128i*)(high + c), _mm512_cvtepi32_epi8(h));
                    _mm_storeu_si128((__m128i*)(low + c), _mm512_cvtepi32_epi8(l));
                }
                a.sum[2 * m] = _mm512_reduce_add_epi32(high_sum), a.sum[2 * m + 1] = _mm512_reduce_add_epi32(low_sum);
                continue;
            }
            a.sum[m] = 0;
            for (int g = 0; g < a.k; g += 64) {
                __m512i sums = _mm512_setzero_si512();
                for (int c = g; c < g + 64; c += 16) {
                    __m512i v = _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_loadu_ps(x + c), inverse));
                    sums = _mm512_add_epi32(sums, v);
                    _mm_storeu_si128((__m128i*)(a.q + (size_t)m * a.k + c), _mm512_cvtsepi32_epi8(v));
                }
                a.sum[m] += a.group_sum[(size_t)m * (a.k / 64) + g / 64] = _mm512_reduce_add_epi32(sums);
            }
        }
    }
}

constexpr int AHEAD = 4096;  // bytes of prefetch distance: the hardware's own prefetcher stops at pages

inline int32_t quad(const int8_t* p) {
    int32_t v;
    memcpy(&v, p, 4);
    return v;
}

// M rows (of I8A16: planes, from plane m0 on) x V vectors of 16 outputs, from vector v0 of a block on.
template <int M, int V, Format FORMAT>
inline void tile(const Matrix& w, int block, int v0, const Rows& a, int m0, float* y, size_t ldy) {
    const int k = w.k;
    // two chains of sums where there are registers for them; of floats always one, so that a row's sums do not depend on how
    // many rows come with it: drafts and batches give the tokens of one row alone
    constexpr int U = bytes(FORMAT) && M * V <= 8 ? 2 : 1;
    if constexpr (FORMAT == F32) {
        __m512 c[M][V] = {};
        const float *p = (const float*)w.data + (size_t)block * k * 64 + v0 * 16, *x = a.f + (size_t)m0 * k;
        for (int i = 0; i < k; i++)
            for (int v = 0; v < V; v++) {
                __m512 wv = _mm512_load_ps(p + (size_t)i * 64 + v * 16);
                for (int m = 0; m < M; m++) c[m][v] = _mm512_fmadd_ps(wv, _mm512_set1_ps(x[(size_t)m * k + i]), c[m][v]);
            }
        for (int m = 0; m < M; m++)
            for (int v = 0; v < V; v++) _mm512_storeu_ps(y + (size_t)m * ldy + (v0 + v) * 16, c[m][v]);
    } else if constexpr (FORMAT == BF16) {
        __m512 c[M][V] = {};
        const uint16_t* p = (const uint16_t*)w.data + (size_t)block * k * 64 + v0 * 32;
        const int32_t* x = (const int32_t*)(a.b + (size_t)m0 * k);
        for (int i = 0; i < k / 2; i++)
            for (int v = 0; v < V; v++) {
                __m512i wv = _mm512_load_si512(p + (size_t)i * 128 + v * 32);
                for (int m = 0; m < M; m++)
                    c[m][v] = _mm512_dpbf16_ps(c[m][v], (__m512bh)wv, (__m512bh)_mm512_set1_epi32(x[(size_t)m * k / 2 + i]));
            }
        for (int m = 0; m < M; m++)
            for (int v = 0; v < V; v++) _mm512_storeu_ps(y + (size_t)m * ldy + (v0 + v) * 16, c[m][v]);
    } else if constexpr (bytes(FORMAT)) {
        __m512i c[U][M][V] = {};
        for (int m = 0; m < M; m++)
            for (int v = 0; v < V; v++) c[0][m][v] = _mm512_set1_epi32(-128 * a.sum[m0 + m]);
        const uint8_t* p = w.data + (size_t)block * k * 64 + v0 * 64;
        const int8_t* x = a.q + (size_t)m0 * k;
        for (int i = 0; i < k / 4; i += U)
            for (int u = 0; u < U; u++)
                for (int v = 0; v < V; v++) {
                    const uint8_t* at = p + (size_t)(i + u) * 256 + v * 64;
                    __m512i wv = _mm512_load_si512(at);
                    if (M <= 2) _mm_prefetch((const char*)at + AHEAD, _MM_HINT_T0);
                    for (int m = 0; m < M; m++)
                        c[u][m][v] = _mm512_dpbusd_epi32(c[u][m][v], wv, _mm512_set1_epi32(quad(x + (size_t)m * k + (i + u) * 4)));
                }
        auto sum = [&](int m, int v) { return _mm512_cvtepi32_ps(U == 2 ? _mm512_add_epi32(c[0][m][v], c[U - 1][m][v]) : c[0][m][v]); };
        constexpr int P = planes(FORMAT);
        for (int m = 0; m < M; m += P)
            for (int v = 0; v < V; v++) {
                __m512 r = P == 2 ? _mm512_fmadd_ps(sum(m, v), _mm512_set1_ps(256), sum(m + P - 1, v)) : sum(m, v);
                __m512 s = _mm512_mul_ps(_mm512_set1_ps(a.scale[(m0 + m) / P]), _mm512_loadu_ps(w.scale + block * 64 + (v0 + v) * 16));
                _mm512_storeu_ps(y + (size_t)(m / P) * ldy + (v0 + v) * 16, _mm512_mul_ps(r, s));
            }
    } else {
        const int groups = k / 64;
        __m512 f[M][V] = {};
        const uint8_t* p = w.data + (size_t)block * k * 32 + v0 * 64;
        const int8_t* x = a.q + (size_t)m0 * k;
        const __m512i nibble = _mm512_set1_epi8(15);
        for (int g = 0; g < groups; g++) {
            __m512i c[M][V];
            for (int m = 0; m < M; m++)
                for (int v = 0; v < V; v++) c[m][v] = _mm512_set1_epi32(-8 * a.group_sum[(size_t)(m0 + m) * groups + g]);
            for (int i = g * 8; i < g * 8 + 8; i++)
                for (int v = 0; v < V; v++) {
                    const uint8_t* at = p + (size_t)i * 256 + v * 64;
                    __m512i wv = _mm512_load_si512(at);
                    if (M <= 2) _mm_prefetch((const char*)at + AHEAD, _MM_HINT_T0);
                    __m512i low = _mm512_and_si512(wv, nibble), high = _mm512_and_si512(_mm512_srli_epi16(wv, 4), nibble);
                    for (int m = 0; m < M; m++) {
                        const int8_t* xm = x + (size_t)m * k + i * 8;
                        c[m][v] = _mm512_dpbusd_epi32(c[m][v], low, _mm512_set1_epi32(quad(xm)));
                        c[m][v] = _mm512_dpbusd_epi32(c[m][v], high, _mm512_set1_epi32(quad(xm + 4)));
                    }
                }
            for (int v = 0; v < V; v++) {
                __m512 s = _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i*)(w.groups + ((size_t)block * groups + g) * 64 + (v0 + v) * 16)));
                for (int m = 0; m < M; m++) f[m][v] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(c[m][v]), s, f[m][v]);
            }
        }
        for (int m = 0; m < M; m++)
            for (int v = 0; v < V; v++)
                _mm512_storeu_ps(y + (size_t)m * ldy + (v0 + v) * 16, _mm512_mul_ps(f[m][v], _mm512_set1_ps(a.scale[m0 + m])));
    }
}

template <Format FORMAT>
inline void rows_times_block(const Matrix& w, int block, const Rows& a, float* y, size_t ldy) {
    constexpr int P = planes(FORMAT);
    for (int m = 0; m < a.m * P;) {
        int left = a.m * P - m;
        float* at = y + (size_t)(m / P) * ldy;
        if (left >= 8) {
            tile<8, 2, FORMAT>(w, block, 0, a, m, at, ldy);
            tile<8, 2, FORMAT>(w, block, 2, a, m, at, ldy);
            m += 8;
        } else if (left >= 4) {
            tile<4, 4, FORMAT>(w, block, 0, a, m, at, ldy);
            m += 4;
        } else if (left >= 2) {
            tile<2, 4, FORMAT>(w, block, 0, a, m, at, ldy);
            m += 2;
        } else if constexpr (P == 1) {
            tile<1, 4, FORMAT>(w, block, 0, a, m, at, ldy);
            m += 1;
        }
    }
}

// y [m, 64] (rows ldy apart) = rows x block of w
inline void multiply(const Matrix& w, int block, const Rows& a, float* y, size_t ldy) {
    switch (w.format) {
        case F32: return rows_times_block<F32>(w, block, a, y, ldy);
        case BF16: return rows_times_block<BF16>(w, block, a, y, ldy);
        case I8: return rows_times_block<I8>(w, block, a, y, ldy);
        case I4: return rows_times_block<I4>(w, block, a, y, ldy);
        case I8A16: return rows_times_block<I8A16>(w, block, a, y, ldy);
    }
}

// exp to within 2 units in the last place (Cephes polynomial).
inline __m512 exp16(__m512 x) {
    x = _mm512_max_ps(x, _mm512_set1_ps(-87.f));
    __m512 n = _mm512_roundscale_ps(_mm512_mul_ps(x, _mm512_set1_ps(1.44269504f)), 0);
    __m512 r = _mm512_fnmadd_ps(n, _mm512_set1_ps(0.693145752f), x);
    r = _mm512_fnmadd_ps(n, _mm512_set1_ps(1.42860677e-6f), r);
    __m512 p = _mm512_set1_ps(1.f / 720);
    for (float c : {1.f / 120, 1.f / 24, 1.f / 6, .5f, 1.f, 1.f}) p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(c));
    return _mm512_scalef_ps(p, n);
}

// scores[0, n) -> exp(scores - max); zeros to the next 16; the inverse of their sum.
inline float softmax(float* s, int n) {
    int padded = (n + 15) & ~15;
    for (int j = n; j < padded; j++) s[j] = -1e30f;
    __m512 top = _mm512_set1_ps(-1e30f), sum = _mm512_setzero_ps();
    for (int j = 0; j < padded; j += 16) top = _mm512_max_ps(top, _mm512_loadu_ps(s + j));
    top = _mm512_set1_ps(_mm512_reduce_max_ps(top));
    for (int j = 0; j < padded; j += 16) {
        __m512 e = exp16(_mm512_sub_ps(_mm512_loadu_ps(s + j), top));
        _mm512_storeu_ps(s + j, e);
    }
    for (int j = n; j < padded; j++) s[j] = 0;
    for (int j = 0; j < padded; j += 16) sum = _mm512_add_ps(sum, _mm512_loadu_ps(s + j));
    return 1 / _mm512_reduce_add_ps(sum);
}
