// Recycles coroutine frames per thread: a frame on the hot path costs a list pop instead of a malloc.
// Frames are freed on the thread that made them (threads share nothing).
#pragma once

#include <cstddef>

namespace pgmosaic::net {

void* frame_allocate(std::size_t size);
void frame_free(void* frame, std::size_t size) noexcept;

}  // namespace pgmosaic::net
