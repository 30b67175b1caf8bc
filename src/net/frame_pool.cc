#include "net/frame_pool.h"

#include <array>
#include <cstdlib>

#include "base/check.h"

namespace pgmosaic::net {

namespace {

constexpr std::size_t kStep = 64;          // size classes in bytes
constexpr std::size_t kClasses = 64;       // frames up to 4 KiB are recycled
constexpr std::size_t kKeepPerClass = 64;  // beyond that memory goes back to malloc

struct FreeFrame {
  FreeFrame* next;
};

struct FramePool {
  std::array<FreeFrame*, kClasses + 1> free{};
  std::array<std::size_t, kClasses + 1> count{};
  ~FramePool() {
    for (FreeFrame* head : free)
      while (head != nullptr) {
        FreeFrame* next = head->next;
        std::free(head);
        head = next;
      }
  }
};

thread_local FramePool pool;

}  // namespace

void* frame_allocate(std::size_t size) {
  const std::size_t size_class = (size + kStep - 1) / kStep;
  if (size_class <= kClasses && pool.free[size_class] != nullptr) {
    FreeFrame* frame = pool.free[size_class];
    pool.free[size_class] = frame->next;
    --pool.count[size_class];
    return frame;
  }
  void* memory = std::malloc(size_class * kStep);
  CHECK(memory != nullptr);
  return memory;
}

void frame_free(void* memory, std::size_t size) noexcept {
  const std::size_t size_class = (size + kStep - 1) / kStep;
  if (size_class > kClasses || pool.count[size_class] >= kKeepPerClass) {
    std::free(memory);
    return;
  }
  auto* frame = static_cast<FreeFrame*>(memory);
  frame->next = pool.free[size_class];
  pool.free[size_class] = frame;
  ++pool.count[size_class];
}

}  // namespace pgmosaic::net
