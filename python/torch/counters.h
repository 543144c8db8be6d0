// How often each kernel ran: what norma.torch.calls() shows.
#pragma once

#include "layer.h"

#include <atomic>
#include <cstdint>

namespace norma_torch {

enum Count { FORWARD = 0, BACKWARD = 1, PASSED_THROUGH = 2, COUNTS = 3 };

inline std::atomic<int64_t> counters[KINDS][COUNTS];

inline void count(int64_t kind, Count what) { counters[kind][what].fetch_add(1, std::memory_order_relaxed); }

// While one lives, PyTorch's own kernel does the work. A layer that reaches several of our kernels on its way there
// is counted once.
class PassThrough {
 public:
  explicit PassThrough(int64_t kind) {
    if (depth++ == 0) count(kind, PASSED_THROUGH);
  }
  ~PassThrough() { depth--; }
  PassThrough(const PassThrough &) = delete;
  PassThrough &operator=(const PassThrough &) = delete;

 private:
  inline static thread_local int depth = 0;
};

}  // namespace norma_torch
