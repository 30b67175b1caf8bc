#include <pthread.h>

#include "cli/commands.h"

namespace {

// Trees of statements are walked recursively, however deep they are (sql/parse.cc). Only what is used becomes memory.
constexpr std::size_t kThreadStack = 512UL << 20;

}  // namespace

int main(int argc, char** argv) {
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setstacksize(&attributes, kThreadStack);
  pthread_setattr_default_np(&attributes);
  pthread_attr_destroy(&attributes);
  return pgmosaic::cli::run(argc, argv);
}
