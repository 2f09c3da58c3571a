// A T5 decode step (and the encoder) as one call, for AVX-512: packed weights, fused projections, static caches, own threads.
//
// Every row of activations is padded with zeros to a multiple of 64 floats, and every head to ``span`` floats, a multiple of
// 64, so that no loop has a tail. Weights of norms are folded into the matrices behind them. Cache slots are never moved:
// ``slot[step][row]`` says in which physical row of the cache the keys and values of that step lie for a row.
#include <stdlib.h>
#include <sys/mman.h>

#include <chrono>
#include <memory>
#include <new>
#include <utility>

#include "kernels.h"
#include "team.h"

extern "C" void* native_allocate(size_t bytes);

namespace {

constexpr int FEW = 16;  // rows up to which each member prepares all of them for itself, to save a barrier
constexpr int PREVIEWED = 64;  // outputs of a shortlist
enum Activation { RELU = 0, GELU_TANH = 1, GELU_ERF = 2, SILU = 3 };

int padded(int n, int to = 64) { return (n + to - 1) / to * to; }

// Aligned floats that can grow and keep nothing when they do; zeroed unless ``untouched``: caches are written before they are
// read, and zeroing them would fault in the pages of steps that are never taken. std::bad_alloc where there is no room.
struct Floats {
    float* p = nullptr;
    size_t size = 0;
    void reserve(size_t n, bool untouched = false) {
        if (n <= size) return;
        free(p);
        size = n + 64, p = nullptr;
        size_t bytes = (size * 4 + 63) & ~(size_t)63;
        p = (float*)aligned_alloc(64, bytes);
        if (!p) {
            size = 0;
            throw std::bad_alloc();
        }
        if (!untouched) memset(p, 0, bytes);
    }
    ~Floats() { free(p); }
};

struct Block {
    Matrix qkv, o, cross_q, cross_o, wi, wi_value, wo;
    const float* bias = nullptr;  // decoder: [heads, distance]
};

// One member's own space.
struct Scratch {
    Floats scores, h, k_transposed, bounds, h_exact;
    std::vector<int8_t> q;
    std::vector<uint16_t> b;
    std::vector<float> scale;
    std::vector<int32_t> sum, group_sum;
    std::vector<std::pair<float, int>> heap;
    std::vector<int64_t> list;
    Rows rows(const float* f, int m, int k) {
        if (q.size() < (size_t)2 * m * k) q.resize((size_t)2 * m * k), b.resize((size_t)m * k);
        if (scale.size() < (size_t)m) scale.resize(m), sum.resize((size_t)2 * m);
        if (group_sum.size() < (size_t)m * (k / 64)) group_sum.resize((size_t)m * (k / 64));
        return {m, k, f, q.data(), b.data(), scale.data(), sum.data(), group_sum.data()};
    }
};

struct Engine {
    int width, heads, size, hidden, layers, decoder_layers, vocabulary, gated, activation;
    float epsilon;
    int wide, span, inner, deep;  // padded: width, head, heads x span, hidden
    int distances = 0;
    const float* embedding;
    std::shared_ptr<Team> its_team;
    Team& team;
    std::vector<Block> encoder, decoder;
    Matrix cross_kv, head;
    // vocabulary projection with exact scores: its rows in float32, the norm before it, and of int8 per output |w - int8 w| and
    // |int8 w|; without these its best PREVIEWED are scored again
    const float *exact = nullptr, *exact_norm = nullptr, *lost = nullptr, *held = nullptr;
    Floats x, y, att, qkv, ff, mid, h, logits;
    Scratch shared;
    std::vector<Scratch> own;

    // team: shared by engines that never work at the same time
    Engine(const int64_t* d, float epsilon, std::shared_ptr<Team> shared_team, const float* embedding)
        : width(d[0]), heads(d[1]), size(d[2]), hidden(d[3]), layers(d[4]), decoder_layers(d[5]), vocabulary(d[6]), gated(d[7]),
          activation(d[8]), epsilon(epsilon), wide(padded(width)), span(padded(size)), inner(heads * span), deep(padded(hidden)),
          embedding(embedding), its_team(std::move(shared_team)), team(*its_team), encoder(layers), decoder(decoder_layers), own(team.size) {}

    std::pair<int, int> part(int n, int t) const { return {(int)((int64_t)n * t / team.size), (int)((int64_t)n * (t + 1) / team.size)}; }

    void embed(const int64_t* ids, int m0, int m1) {
        for (int m = m0; m < m1; m++) memcpy(x.p + (size_t)m * wide, embedding + ids[m] * width, (size_t)width * 4);
    }

    // T5's layer norm without its weight.
    void norm(const float* from, float* to, int m0, int m1) const {
        for (int m = m0; m < m1; m++) {
            const float* p = from + (size_t)m * wide;
            __m512 s = _mm512_setzero_ps();
            for (int i = 0; i < wide; i += 16) s = _mm512_fmadd_ps(_mm512_loadu_ps(p + i), _mm512_loadu_ps(p + i), s);
            __m512 r = _mm512_set1_ps(1 / sqrtf(_mm512_reduce_add_ps(s) / width + epsilon));
            for (int i = 0; i < wide; i += 16) _mm512_storeu_ps(to + (size_t)m * wide + i, _mm512_mul_ps(_mm512_loadu_ps(p + i), r));
        }
    }

    // The rows that a matrix multiplies: of few each member makes its own, of many each makes its share for all.
    Rows input(int t, const float* f, int m, int k, Format format) {
        Rows a = (m <= FEW ? own[t] : shared).rows(f, m, k);
        if (m <= FEW) {
            prepare(a, format, 0, m);
        } else {
            auto [m0, m1] = part(m, t);
            prepare(a, format, m0, m1);
            team.barrier();
        }
        return a;
    }
    Rows normed(int t, int m, Format format) {
        if (m <= FEW) {
            norm(x.p, own[t].h.p, 0, m);
            return input(t, own[t].h.p, m, wide, format);
        }
        auto [m0, m1] = part(m, t);
        norm(x.p, h.p, m0, m1);
        return input(t, h.p, m, wide, format);
    }

    // x += rows x w, each member its columns.
    void add_product(int t, const Matrix& w, const Rows& a) {
        auto [n0, n1] = part(w.blocks(), t);
        for (int n = n0; n < n1; n++) {
            multiply(w, n, a, y.p + n * 64, wide);
            for (int m = 0; m < a.m; m++)
                for (int i = n * 64; i < n * 64 + 64; i += 16) {
                    float* to = x.p + (size_t)m * wide + i;
                    _mm512_storeu_ps(to, _mm512_add_ps(_mm512_loadu_ps(to), _mm512_loadu_ps(y.p + (size_t)m * wide + i)));
                }
        }
    }

    __m512 activate(__m512 v) const {
        const __m512 one = _mm512_set1_ps(1), half = _mm512_set1_ps(.5f);
        if (activation == RELU) return _mm512_max_ps(v, _mm512_setzero_ps());
        if (activation == SILU) return _mm512_div_ps(v, _mm512_add_ps(one, exp16(_mm512_min_ps(_mm512_sub_ps(_mm512_setzero_ps(), v), _mm512_set1_ps(80.f)))));
        if (activation == GELU_ERF) {
            float values[16];
            _mm512_storeu_ps(values, v);
            for (float& each : values) each = .5f * each * (1 + erff(each * 0.70710678f));
            return _mm512_loadu_ps(values);
        }
        __m512 g = _mm512_mul_ps(_mm512_set1_ps(0.7978845608f), _mm512_fmadd_ps(_mm512_mul_ps(_mm512_mul_ps(v, v), v), _mm512_set1_ps(0.044715f), v));
        __m512 e = exp16(_mm512_min_ps(_mm512_add_ps(g, g), _mm512_set1_ps(80.f)));  // tanh(g) = 1 - 2 / (1 + exp(2 g))
        __m512 tanh = _mm512_sub_ps(one, _mm512_div_ps(_mm512_set1_ps(2), _mm512_add_ps(one, e)));
        return _mm512_mul_ps(_mm512_mul_ps(half, v), _mm512_add_ps(one, tanh));
    }

    void feed_forward(int t, const Block& l, int m) {
        Rows a = normed(t, m, l.wi.format);
        auto [f0, f1] = part(l.wi.blocks(), t);
        for (int n = f0; n < f1; n++) {
            multiply(l.wi, n, a, mid.p + n * 64, deep);
            if (gated) multiply(l.wi_value, n, a, ff.p + n * 64, deep);
        }
        for (int r = 0; r < m; r++)
            for (int i = f0 * 64; i < f1 * 64; i += 16) {
                float* p = mid.p + (size_t)r * deep + i;
                __m512 v = activate(_mm512_loadu_ps(p));
                if (gated) v = _mm512_mul_ps(v, _mm512_loadu_ps(ff.p + (size_t)r * deep + i));
                _mm512_storeu_ps(p, v);
            }
        team.barrier();
        add_product(t, l.wo, input(t, mid.p, m, deep, l.wo.format));
        team.barrier();
    }

    void reserve(int m) {
        x.reserve((size_t)m * wide), y.reserve((size_t)m * wide), h.reserve((size_t)m * wide);
        att.reserve((size_t)m * inner), qkv.reserve((size_t)m * 3 * inner);
        ff.reserve((size_t)m * deep), mid.reserve((size_t)m * deep);
        shared.rows(nullptr, m, std::max({wide, inner, deep}));
        for (auto& each : own) each.h.reserve((size_t)FEW * wide), each.rows(nullptr, FEW, std::max({wide, inner, deep}));
    }
};

// The inputs' side of a generation, fixed after the encoder: keys [size][padded length] and values [padded length][span].
struct Cross {
    std::vector<int> length, stride;  // per input; stride: length padded to 16
    std::vector<size_t> start;        // offset of an input's first head in one layer
    size_t layer = 0;                 // floats of one layer
    Floats keys, values;
};

struct State {
    Engine& e;
    std::shared_ptr<Cross> cross = std::make_shared<Cross>();
    int rows = 0, capacity = 0, physical = 0, step = 0;
    std::vector<int> input;                // [rows] which input a row belongs to
    std::vector<std::vector<int>> slot;    // [step][row]
    Floats keys, values;                   // [layer][physical row][head][capacity][span]
    size_t head_floats() const { return (size_t)capacity * e.span; }
    size_t row_floats() const { return e.heads * head_floats(); }
    size_t layer_floats() const { return (size_t)physical * row_floats(); }

    // Makes room for more rows; what is there keeps its place.
    void grow(int to) {
        if (to <= physical) return;
        Floats k, v;
        size_t row = row_floats();
        k.reserve(e.decoder_layers * row * to, true), v.reserve(e.decoder_layers * row * to, true);
        for (int l = 0; l < e.decoder_layers && step; l++)
            for (int r = 0; r < physical; r++)
                for (int hh = 0; hh < e.heads; hh++) {
                    size_t from = l * layer_floats() + r * row + hh * head_floats(), at = (size_t)l * to * row + r * row + hh * head_floats();
                    memcpy(k.p + at, keys.p + from, (size_t)step * e.span * 4), memcpy(v.p + at, values.p + from, (size_t)step * e.span * 4);
                }
        std::swap(k.p, keys.p), std::swap(k.size, keys.size), std::swap(v.p, values.p), std::swap(v.size, values.size);
        physical = to;
    }
};

// A state with room for its inputs' keys and values.
std::unique_ptr<State> fresh(Engine* e, const int32_t* lengths, int inputs, int capacity) {
    std::unique_ptr<State> s(new State{*e});
    s->rows = inputs, s->capacity = capacity;
    Cross& c = *s->cross;
    c.length.assign(lengths, lengths + inputs);
    for (int b = 0; b < inputs; b++) {
        s->input.push_back(b);
        c.stride.push_back(padded(lengths[b], 16));
        c.start.push_back(c.layer);
        c.layer += (size_t)e->heads * e->span * c.stride[b];
    }
    c.keys.reserve(c.layer * e->decoder_layers, true), c.values.reserve(c.layer * e->decoder_layers, true);
    return s;
}

void encode(State& s, const int64_t* ids, const float* bias, int bias_layers, int bias_length) {
    Engine& e = s.e;
    Cross& c = *s.cross;
    const int inputs = c.length.size();
    std::vector<int> first(inputs + 1, 0);
    int longest = 0;
    for (int b = 0; b < inputs; b++) {
        first[b + 1] = first[b] + c.length[b];
        longest = std::max(longest, c.stride[b]);
    }
    const int m = first[inputs], ld = 3 * e.inner, center = (bias_length - 1) / 2, span = e.span;
    e.reserve(m);
    for (auto& each : e.own) each.scores.reserve((size_t)8 * longest), each.k_transposed.reserve((size_t)span * longest + (size_t)m * span);
    e.team.run([&](int t) {
        auto [m0, m1] = e.part(m, t);
        auto [h0, h1] = e.part(e.heads, t);
        float *scores = e.own[t].scores.p, *kt = e.own[t].k_transposed.p;
        const int blocks = span / 64;
        e.embed(ids, m0, m1);
        e.team.barrier();
        for (int layer = 0; layer < e.layers; layer++) {
            const Block& l = e.encoder[layer];
            Rows a = e.normed(t, m, l.qkv.format);
            for (int hh = h0; hh < h1; hh++)
                for (int p = 0; p < 3; p++)
                    for (int n = 0; n < blocks; n++) multiply(l.qkv, (p * e.heads + hh) * blocks + n, a, e.qkv.p + (p * e.heads + hh) * span + n * 64, ld);
            for (int b = 0; b < inputs; b++)
                for (int hh = h0; hh < h1; hh++) {
                    const int n = c.length[b], np = c.stride[b];
                    const float* base = e.qkv.p + (size_t)first[b] * ld + hh * span;
                    const float* table = bias + ((size_t)(bias_layers > 1 ? layer : 0) * e.heads + hh) * bias_length + center;
                    for (int j = 0; j < n; j++)
                        for (int i = 0; i < e.size; i++) kt[(size_t)i * np + j] = base[(size_t)j * ld + e.inner + i];
                    for (int j = n; j < np; j++)
                        for (int i = 0; i < e.size; i++) kt[(size_t)i * np + j] = 0;
                    for (int i0 = 0; i0 < n; i0 += 8) {  // eight queries share each load of keys and values
                        const int count = std::min(8, n - i0);
                        const float* q[8];
                        for (int i = 0; i < 8; i++) q[i] = base + (size_t)std::min(i0 + i, n - 1) * ld;
                        for (int j = 0; j < np; j += 16) {
                            __m512 sum[8];
                            for (int i = 0; i < 8; i++) sum[i] = _mm512_loadu_ps(table - std::min(i0 + i, n - 1) + j);
                            for (int d = 0; d < e.size; d++) {
                                __m512 kv = _mm512_loadu_ps(kt + (size_t)d * np + j);
                                for (int i = 0; i < 8; i++) sum[i] = _mm512_fmadd_ps(_mm512_set1_ps(q[i][d]), kv, sum[i]);
                            }
                            for (int i = 0; i < 8; i++) _mm512_storeu_ps(scores + (size_t)i * np + j, sum[i]);
                        }
                        float inverse[8];
                        for (int i = 0; i < 8; i++) inverse[i] = softmax(scores + (size_t)i * np, n);
                        for (int d = 0; d < span; d += 32) {
                            __m512 sum[8][2] = {};
                            for (int j = 0; j < n; j++) {
                                const float* v = base + (size_t)j * ld + 2 * e.inner + d;
                                __m512 v0 = _mm512_loadu_ps(v), v1 = _mm512_loadu_ps(v + 16);
                                for (int i = 0; i < 8; i++) {
                                    __m512 p = _mm512_set1_ps(scores[(size_t)i * np + j]);
                                    sum[i][0] = _mm512_fmadd_ps(p, v0, sum[i][0]), sum[i][1] = _mm512_fmadd_ps(p, v1, sum[i][1]);
                                }
                            }
                            for (int i = 0; i < count; i++)
                                for (int u = 0; u < 2; u++)
                                    _mm512_storeu_ps(e.att.p + (size_t)(first[b] + i0 + i) * e.inner + hh * span + d + 16 * u, _mm512_mul_ps(sum[i][u], _mm512_set1_ps(inverse[i])));
                        }
                    }
                }
            e.team.barrier();
            e.add_product(t, l.o, e.input(t, e.att.p, m, e.inner, l.o.format));
            e.team.barrier();
            e.feed_forward(t, l, m);
        }
        Rows a = e.normed(t, m, e.cross_kv.format);
        float* out = kt + (size_t)span * longest;
        for (int layer = 0; layer < e.decoder_layers; layer++)
            for (int hh = h0; hh < h1; hh++)
                for (int p = 0; p < 2; p++) {
                    for (int n = 0; n < blocks; n++) multiply(e.cross_kv, ((layer * 2 + p) * e.heads + hh) * blocks + n, a, out + n * 64, span);
                    for (int b = 0; b < inputs; b++) {
                        const int n = c.length[b], np = c.stride[b];
                        float* to = (p ? c.values : c.keys).p + layer * c.layer + c.start[b] + (size_t)hh * span * np;
                        const float* from = out + (size_t)first[b] * span;
                        if (p) {
                            memcpy(to, from, (size_t)n * span * 4);
                        } else {
                            for (int j = 0; j < n; j++)
                                for (int i = 0; i < span; i++) to[(size_t)i * np + j] = from[(size_t)j * span + i];
                        }
                    }
                }
    });
}

// Rows continue others: caches stay, the book of slots follows.
void follow(State& s, const int64_t* parents, int rows) {
    std::vector<int> was(s.input);
    s.input.resize(rows);
    for (int r = 0; r < rows; r++) s.input[r] = was[parents[r]];
    for (auto& row : s.slot) {
        std::vector<int> old(row);
        row.resize(rows);
        for (int r = 0; r < rows; r++) row[r] = old[parents[r]];
    }
    s.grow(rows);
    s.rows = rows;
}

// Where a row of a step stands: rows of one step are at the same position, drafts of one row at consecutive ones.
struct Place {
    int physical, position, column;  // column: of the book of slots
};

void attend_self(State& s, int layer, int hh, int r, const Place& at, float* scores) {
    Engine& e = s.e;
    const int n = at.position + 1, span = e.span;
    float* q = e.qkv.p + (size_t)r * 3 * e.inner + hh * span;
    auto cache = [&](Floats& f, int physical) { return f.p + layer * s.layer_floats() + physical * s.row_floats() + hh * s.head_floats(); };
    memcpy(cache(s.keys, at.physical) + (size_t)at.position * span, q + e.inner, (size_t)span * 4);
    memcpy(cache(s.values, at.physical) + (size_t)at.position * span, q + 2 * e.inner, (size_t)span * 4);
    const float* bias = e.decoder[layer].bias + (size_t)hh * e.distances;
    for (int j = 0; j < n; j++) {
        const float* k = cache(s.keys, s.slot[j][at.column]) + (size_t)j * span;
        __m512 sum = _mm512_setzero_ps();
        for (int i = 0; i < span; i += 16) sum = _mm512_fmadd_ps(_mm512_loadu_ps(q + i), _mm512_loadu_ps(k + i), sum);
        scores[j] = _mm512_reduce_add_ps(sum) + bias[at.position - j];
    }
    __m512 inverse = _mm512_set1_ps(softmax(scores, n));
    for (int d = 0; d < span; d += 64) {
        __m512 sum[4] = {};
        for (int j = 0; j < n; j++) {
            const float* v = cache(s.values, s.slot[j][at.column]) + (size_t)j * span + d;
            __m512 p = _mm512_set1_ps(scores[j]);
            for (int i = 0; i < 4; i++) sum[i] = _mm512_fmadd_ps(p, _mm512_loadu_ps(v + 16 * i), sum[i]);
        }
        for (int i = 0; i < 4; i++) _mm512_storeu_ps(e.att.p + (size_t)r * e.inner + hh * span + d + 16 * i, _mm512_mul_ps(sum[i], inverse));
    }
}

void attend_cross(State& s, int layer, int hh, int b, int r, float* scores) {
    Engine& e = s.e;
    const Cross& c = *s.cross;
    const int n = c.length[b], np = c.stride[b], span = e.span;
    const float* q = e.qkv.p + (size_t)r * 3 * e.inner + hh * span;
    const size_t at = layer * c.layer + c.start[b] + (size_t)hh * span * np;
    const float *keys = c.keys.p + at, *values = c.values.p + at;
    for (int j = 0; j < np; j += 64) {
        const int count = std::min(4, (np - j) / 16);
        __m512 sum[4] = {};
        for (int d = 0; d < e.size; d++) {
            __m512 qv = _mm512_set1_ps(q[d]);
            for (int i = 0; i < count; i++) sum[i] = _mm512_fmadd_ps(qv, _mm512_loadu_ps(keys + (size_t)d * np + j + 16 * i), sum[i]);
        }
        for (int i = 0; i < count; i++) _mm512_storeu_ps(scores + j + 16 * i, sum[i]);
    }
    __m512 inverse = _mm512_set1_ps(softmax(scores, n));
    for (int d = 0; d < span; d += 64) {
        __m512 sum[4] = {};
        for (int j = 0; j < n; j++) {
            __m512 p = _mm512_set1_ps(scores[j]);
            for (int i = 0; i < 4; i++) sum[i] = _mm512_fmadd_ps(p, _mm512_loadu_ps(values + (size_t)j * span + d + 16 * i), sum[i]);
        }
        for (int i = 0; i < 4; i++) _mm512_storeu_ps(e.att.p + (size_t)r * e.inner + hh * span + d + 16 * i, _mm512_mul_ps(sum[i], inverse));
    }
}

float log_sum(const float* logits, int n) {
    __m512 top = _mm512_loadu_ps(logits), sum = _mm512_setzero_ps();
    for (int j = 16; j < n; j += 16) top = _mm512_max_ps(top, _mm512_loadu_ps(logits + j));
    const float largest = _mm512_reduce_max_ps(top);
    for (int j = 0; j < n; j += 16) sum = _mm512_add_ps(sum, exp16(_mm512_sub_ps(_mm512_loadu_ps(logits + j), _mm512_set1_ps(largest))));
    return largest + logf(_mm512_reduce_add_ps(sum));
}

// The k best logits of a row, best first, lower ids first among equals; scores normalized when k > 1.
void best_of(const float* logits, int n, int k, int64_t* ids, float* scores, std::vector<std::pair<float, int>>& found) {
    auto before = [](const std::pair<float, int>& a, const std::pair<float, int>& b) { return a.first > b.first || (a.first == b.first && a.second < b.second); };
    found.clear();
    float least = -1e30f;
    for (int j = 0; j < n; j += 16) {
        unsigned better = _mm512_cmp_ps_mask(_mm512_loadu_ps(logits + j), _mm512_set1_ps(least), _CMP_GT_OQ);
        for (; better; better &= better - 1) {
            int at = j + __builtin_ctz(better);
            found.push_back({logits[at], at});
            if ((int)found.size() >= 4 * k + 16) {
                std::nth_element(found.begin(), found.begin() + k - 1, found.end(), before);
                found.resize(k);
                least = found[k - 1].first;
            }
        }
    }
    std::sort(found.begin(), found.end(), before);
    for (int i = 0; i < k; i++) ids[i] = i < (int)found.size() ? found[i].second : 0;
    if (!scores || k == 1) return;
    const float normalizer = log_sum(logits, n);
    for (int i = 0; i < k; i++) scores[i] = (i < (int)found.size() ? found[i].first : -1e30f) - normalizer;
}

// The score of one output by its float32 row. h: the normed row times the norm's weight.
float exact_score(const Engine& e, const float* h, int n) {
    const float* w = e.exact + (size_t)n * e.width;
    __m512 sum = _mm512_setzero_ps();
    int i = 0;
    for (; i + 16 <= e.width; i += 16) sum = _mm512_fmadd_ps(_mm512_loadu_ps(w + i), _mm512_loadu_ps(h + i), sum);
    float score = _mm512_reduce_add_ps(sum);
    for (; i < e.width; i++) score += w[i] * h[i];
    return score;
}

// The k best of the shortlist that the logits name, by exact scores; the normalizer has those and the logits of the others.
void shortlisted(const Engine& e, const float* h, float* logits, int k, int64_t* ids, float* scores, Scratch& mine) {
    const int count = std::max(PREVIEWED, k);
    int64_t* list = mine.list.data();
    if (mine.list.size() < (size_t)count) mine.list.resize(count), list = mine.list.data();
    best_of(logits, padded(e.vocabulary), count, list, nullptr, mine.heap);
    mine.h_exact.reserve(e.wide);
    for (int i = 0; i < e.width; i++) mine.h_exact.p[i] = h[i] * e.exact_norm[i];
    const int found = mine.heap.size() < (size_t)count ? mine.heap.size() : count;
    mine.heap.clear();
    for (int i = 0; i < found; i++) mine.heap.push_back({exact_score(e, mine.h_exact.p, list[i]), (int)list[i]});
    for (auto& each : mine.heap) logits[each.second] = each.first;
    std::sort(mine.heap.begin(), mine.heap.end(), [](auto& a, auto& b) { return a.first > b.first || (a.first == b.first && a.second < b.second); });
    for (int i = 0; i < k; i++) ids[i] = i < found ? mine.heap[i].second : 0;
    if (k == 1) return;
    const float normalizer = log_sum(logits, padded(e.vocabulary));
    for (int i = 0; i < k; i++) scores[i] = (i < found ? mine.heap[i].first : -1e30f) - normalizer;
}

// The k best by exact scores. h: [wide] the normed row; scores of the int8 product err by at most |h| |w - wq| + |h - hq| |wq|
// (Cauchy-Schwarz), so only outputs whose upper bound reaches the k-th best lower bound can be among the best.
void exact_best(const Engine& e, const float* h, float* logits, int k, int64_t* ids, float* scores, Scratch& mine) {
    const int all = padded(e.vocabulary);
    float largest = 0, norm = 0, error = 0;
    for (int i = 0; i < e.wide; i++) largest = std::max(largest, fabsf(h[i])), norm += h[i] * h[i];
    const float s = largest > 0 ? largest / LEVELS : 1;
    for (int i = 0; i < e.wide; i++) {
        float d = h[i] - s * lrintf(h[i] / s);
        error += d * d;
    }
    const __m512 hn = _mm512_set1_ps(sqrtf(norm) * 1.0001f), he = _mm512_set1_ps(sqrtf(error) * 1.0001f + 1e-6f);
    auto bound = [&](int j) { return _mm512_fmadd_ps(hn, _mm512_loadu_ps(e.lost + j), _mm512_mul_ps(he, _mm512_loadu_ps(e.held + j))); };
    mine.bounds.reserve(all), mine.h_exact.reserve(e.wide);
    for (int j = 0; j < all; j += 16) _mm512_storeu_ps(mine.bounds.p + j, _mm512_sub_ps(_mm512_loadu_ps(logits + j), bound(j)));
    best_of(mine.bounds.p, all, k, ids, nullptr, mine.heap);
    const __m512 least = _mm512_set1_ps(mine.bounds.p[ids[k - 1]]);
    for (int i = 0; i < e.width; i++) mine.h_exact.p[i] = h[i] * e.exact_norm[i];
    mine.heap.clear();
    for (int j = 0; j < all; j += 16) {
        unsigned possible = _mm512_cmp_ps_mask(_mm512_add_ps(_mm512_loadu_ps(logits + j), bound(j)), least, _CMP_GE_OQ);
        for (; possible; possible &= possible - 1) {
            const int n = j + __builtin_ctz(possible);
            mine.heap.push_back({exact_score(e, mine.h_exact.p, n), n});
        }
    }
    std::sort(mine.heap.begin(), mine.heap.end(), [](auto& a, auto& b) { return a.first > b.first || (a.first == b.first && a.second < b.second); });
    for (int i = 0; i < k; i++) ids[i] = mine.heap[i].second;
    if (k == 1) return;
    for (auto& each : mine.heap) logits[each.second] = each.first;  // the normalizer has int8's of the others
    const float normalizer = log_sum(logits, all);
    for (int i = 0; i < k; i++) scores[i] = mine.heap[i].first - normalizer;
}

// One pass over rows at ``places``; the state's own counters are the caller's.
void pass(State& s, const int64_t* tokens, const std::vector<Place>& places, int k, int64_t* ids, float* scores) {
    Engine& e = s.e;
    const int m = places.size(), span = e.span, blocks = span / 64, ld = 3 * e.inner, all = padded(e.vocabulary);
    e.reserve(m);
    e.logits.reserve((size_t)m * all);
    int longest = padded(s.capacity, 16);
    for (int np : s.cross->stride) longest = std::max(longest, np);
    e.team.run([&](int t) {
        Scratch& mine = e.own[t];
        mine.scores.reserve((size_t)8 * longest);
        auto [h0, h1] = e.part(e.heads, t);
        auto [m0, m1] = e.part(m, t);
        e.embed(tokens, m0, m1);
        e.team.barrier();
        for (int layer = 0; layer < e.decoder_layers; layer++) {
            const Block& l = e.decoder[layer];
            Rows a = e.normed(t, m, l.qkv.format);
            for (int hh = h0; hh < h1; hh++) {
                for (int p = 0; p < 3; p++)
                    for (int n = 0; n < blocks; n++) multiply(l.qkv, (p * e.heads + hh) * blocks + n, a, e.qkv.p + (p * e.heads + hh) * span + n * 64, ld);
                for (int r = 0; r < m; r++) attend_self(s, layer, hh, r, places[r], mine.scores.p);
            }
            e.team.barrier();
            e.add_product(t, l.o, e.input(t, e.att.p, m, e.inner, l.o.format));
            e.team.barrier();
            a = e.normed(t, m, l.cross_q.format);
            for (int hh = h0; hh < h1; hh++) {
                for (int n = 0; n < blocks; n++) multiply(l.cross_q, hh * blocks + n, a, e.qkv.p + hh * span + n * 64, ld);
                for (int r = 0; r < m; r++) attend_cross(s, layer, hh, s.input[places[r].column], r, mine.scores.p);
            }
            e.team.barrier();
            e.add_product(t, l.cross_o, e.input(t, e.att.p, m, e.inner, l.cross_o.format));
            e.team.barrier();
            e.feed_forward(t, l, m);
        }
        Rows a = e.normed(t, m, e.head.format);
        auto [n0, n1] = e.part(e.head.blocks(), t);
        for (int n = n0; n < n1; n++) multiply(e.head, n, a, e.logits.p + n * 64, all);
        if (n1 == e.head.blocks())
            for (int r = 0; r < m; r++)
                for (int i = e.vocabulary; i < all; i++) e.logits.p[(size_t)r * all + i] = -1e30f;
        e.team.barrier();
        const float* hidden = m <= FEW ? mine.h.p : e.h.p;
        for (int r = m0; r < m1; r++) {
            const float* row = hidden + (size_t)r * e.wide;
            float *logits = e.logits.p + (size_t)r * all, *to = scores + (size_t)r * k;
            if (e.lost) exact_best(e, row, logits, k, ids + (size_t)r * k, to, mine);
            else if (e.exact) shortlisted(e, row, logits, k, ids + (size_t)r * k, to, mine);
            else best_of(logits, all, k, ids + (size_t)r * k, to, mine.heap);
        }
    });
}

void step(State& s, const int64_t* tokens, int k, int64_t* ids, float* scores) {
    s.grow(s.rows);
    std::vector<int> here(s.rows);
    std::vector<Place> places;
    for (int r = 0; r < s.rows; r++) here[r] = r, places.push_back({r, s.step, r});
    s.slot.push_back(here);
    pass(s, tokens, places, k, ids, scores);
    s.step++;
}

// The only row's next token and drafts after it, in one pass: each is answered as if those before it had been decoded.
void verify(State& s, const int64_t* tokens, int count, int k, int64_t* ids, float* scores) {
    s.grow(1);
    std::vector<Place> places;
    for (int r = 0; r < count; r++) places.push_back({0, s.step + r, 0}), s.slot.push_back({0});
    pass(s, tokens, places, k, ids, scores);
    s.step += count;
}

// What ``act`` returns, or ``none`` where there is no room for it.
template <typename T, typename F>
T with_room(T none, F act) {
    try {
        return act();
    } catch (const std::bad_alloc&) {
        return none;
    }
}

// Nanoseconds in which a team reads this many bytes once, the best of several passes: the bound of a decode step.
double stream(size_t bytes, int threads, int passes) {
    Team team(threads);
    auto* p = (uint8_t*)native_allocate(bytes);
    if (!p) return 0;
    memset(p, 1, bytes);
    std::vector<int64_t> sums(threads * 8);
    double best = 1e18;
    for (int pass = 0; pass < passes; pass++) {
        auto begin = std::chrono::steady_clock::now();
        team.run([&](int t) {
            const size_t lines = bytes / 256, l0 = lines * t / threads, l1 = lines * (t + 1) / threads;
            __m512i s[4] = {};
            for (size_t l = l0; l < l1; l++)
                for (int i = 0; i < 4; i++) {
                    const uint8_t* at = p + l * 256 + i * 64;
                    _mm_prefetch((const char*)at + AHEAD, _MM_HINT_T0);
                    s[i] = _mm512_add_epi64(s[i], _mm512_load_si512(at));
                }
            sums[t * 8] = _mm512_reduce_add_epi64(_mm512_add_epi64(_mm512_add_epi64(s[0], s[1]), _mm512_add_epi64(s[2], s[3])));
        });
        best = std::min(best, std::chrono::duration<double, std::nano>(std::chrono::steady_clock::now() - begin).count());
    }
    free(p);
    return sums[0] ? best : 0;  // used, so that no compiler leaves the reading out
}

}  // namespace

extern "C" {
size_t native_packed_size(int n, int k, int format) { return values_size(n, k, (Format)format) + scales_size(n, k, (Format)format); }
void native_pack(const float* w, int n, int k, int format, uint8_t* out) { pack(w, n, k, (Format)format, out); }

// partner: an engine whose threads this one shares, or null.
Engine* native_engine(const int64_t* dimensions, float epsilon, int threads, const float* embedding, Engine* partner) {
    return new Engine(dimensions, epsilon, partner ? partner->its_team : std::make_shared<Team>(threads), embedding);
}
// side: 0 encoder, 1 decoder, 2 cross_kv (which 0) and head (which 1). which: qkv, o, cross_q, cross_o, wi, wi_value, wo.
void native_matrix(Engine* e, int side, int layer, int which, int n, int k, int format, const uint8_t* data) {
    Matrix w{n, k, (Format)format, data};
    const uint8_t* behind = data + values_size(n, k, w.format);
    w.scale = (const float*)behind;
    w.groups = (const uint16_t*)behind;
    if (side == 2) {
        (which ? e->head : e->cross_kv) = w;
        return;
    }
    Block& b = (side ? e->decoder : e->encoder)[layer];
    Matrix* places[] = {&b.qkv, &b.o, &b.cross_q, &b.cross_o, &b.wi, &b.wi_value, &b.wo};
    *places[which] = w;
}
void native_bias(Engine* e, int layer, const float* bias, int distances) {
    e->decoder[layer].bias = bias;
    e->distances = distances;
}
void native_exact_head(Engine* e, const float* rows, const float* norm, const float* lost, const float* held) {
    e->exact = rows, e->exact_norm = norm, e->lost = lost, e->held = held;
}
// Null, and nonzero from step and verify: there is no room for caches and activations.
State* native_encode(Engine* e, const int64_t* ids, const int32_t* lengths, int inputs, int capacity, const float* bias, int bias_layers, int bias_length) {
    return with_room<State*>(nullptr, [&] {
        auto s = fresh(e, lengths, inputs, capacity);
        encode(*s, ids, bias, bias_layers, bias_length);
        return s.release();
    });
}
// An input's keys and values, kept and put back: their floats, a copy of them, and a state from such copies.
size_t native_encoding_floats(State* s, int input) { return (size_t)2 * s->e.decoder_layers * s->e.heads * s->e.span * s->cross->stride[input]; }
void native_take(State* s, int input, float* out) {
    const Cross& c = *s->cross;
    const size_t n = (size_t)s->e.heads * s->e.span * c.stride[input];
    for (int layer = 0; layer < s->e.decoder_layers; layer++) {
        memcpy(out, c.keys.p + layer * c.layer + c.start[input], n * 4), out += n;
        memcpy(out, c.values.p + layer * c.layer + c.start[input], n * 4), out += n;
    }
}
State* native_resume(Engine* e, const int32_t* lengths, int inputs, int capacity, const float** encodings) {
    auto s = with_room<std::unique_ptr<State>>(nullptr, [&] { return fresh(e, lengths, inputs, capacity); });
    if (!s) return nullptr;
    const Cross& c = *s->cross;
    for (int b = 0; b < inputs; b++) {
        const size_t n = (size_t)e->heads * e->span * c.stride[b];
        const float* from = encodings[b];
        for (int layer = 0; layer < e->decoder_layers; layer++) {
            memcpy(c.keys.p + layer * c.layer + c.start[b], from, n * 4), from += n;
            memcpy(c.values.p + layer * c.layer + c.start[b], from, n * 4), from += n;
        }
    }
    return s.release();
}
void native_follow(State* s, const int64_t* parents, int rows) { follow(*s, parents, rows); }
int native_step(State* s, const int64_t* tokens, int k, int64_t* ids, float* scores) {
    return with_room(1, [&] { return step(*s, tokens, k, ids, scores), 0; });
}
int native_verify(State* s, const int64_t* tokens, int count, int k, int64_t* ids, float* scores) {
    return with_room(1, [&] { return verify(*s, tokens, count, k, ids, scores), 0; });
}
void native_rewind(State* s, int length) { s->step = length, s->slot.resize(length); }
const float* native_logits(State* s) { return s->e.logits.p; }
double native_stream(size_t bytes, int threads, int passes) { return stream(bytes, threads, passes); }
void native_free_state(State* s) { delete s; }
void native_free(Engine* e) { delete e; }
void native_release(void* weights) { free(weights); }
void* native_allocate(size_t bytes) {
    bytes = (bytes + (2 << 20) - 1) & ~(size_t)((2 << 20) - 1);
    void* p = aligned_alloc(2 << 20, bytes);
    if (p) madvise(p, bytes, MADV_HUGEPAGE);
    return p;
}
}
