// Numbers of sequences that the router has taken from the home and not given out yet (sharding.sequence_block).
//
// They are shared by the workers: what makes them stale – another START, other rights, setval() – has to reach them all
// at once, before the client hears of it, and a lock held for some ten nanoseconds per INSERT is cheaper than a message
// to every worker. Numbers are also used up nearly in their order, and a restart leaves one gap and not one per worker.
//
// A block belongs to a sequence and a role, since PostgreSQL checks the role's rights when the numbers are drawn. The
// home counts on by itself meanwhile, so a number is never given out twice; what is dropped here is a gap.
//
// Where a sequence may just be changing, blocks are suspended: whoever needs a number asks the home for exactly that,
// and waits for locks there as on one PostgreSQL. Numbers that were asked for before that are not kept (see Ticket).
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

namespace pgmosaic::router {

// Numbers in the order in which the sequence gave them.
class Numbers {
 public:
  // Adds the answer of pgmosaic_draw() (control/install_home_sql.h): "first,step,count;" for each run.
  // False: it is none.
  bool read(std::string_view runs);
  void add(int64_t first, int64_t step, uint64_t count);
  uint64_t size() const { return size_; }
  // REQUIRES: size() > 0.
  int64_t take();
  // Moves up to `count` from the front of another.
  void take_from(Numbers& other, uint64_t count);

 private:
  struct Run {
    int64_t first = 0, step = 0;
    uint64_t count = 0;
  };
  std::deque<Run> runs_;
  uint64_t size_ = 0;
};

// Of one router. Any thread.
class SequenceBlocks {
 public:
  struct Key {
    std::string database;
    uint32_t sequence = 0;  // the home's OID
    std::string role;
  };
  // Taken before the home is asked; numbers that it is asked for are kept only while nothing has been dropped since.
  using Ticket = uint64_t;

  // Up to `count` numbers, as many as there are. nullopt: none are to be kept just now.
  std::optional<Ticket> take(const Key& key, uint64_t count, Numbers& numbers);
  void put(const Key& key, Ticket ticket, Numbers rest);
  void drop_all();
  // Until as many calls of resume().
  void suspend(const std::string& database);
  void resume(const std::string& database);

 private:
  struct Database {
    int suspended = 0;
    std::map<std::pair<uint32_t, std::string>, Numbers> blocks;
  };
  std::mutex mutex_;
  Ticket drops_ = 0;
  std::map<std::string, Database> databases_;
};

class BlocksSuspended {
 public:
  BlocksSuspended(SequenceBlocks& blocks, std::string database) : blocks_(blocks), database_(std::move(database)) {
    blocks_.suspend(database_);
  }
  ~BlocksSuspended() { blocks_.resume(database_); }
  BlocksSuspended(const BlocksSuspended&) = delete;
  BlocksSuspended& operator=(const BlocksSuspended&) = delete;

 private:
  SequenceBlocks& blocks_;
  const std::string database_;
};

}  // namespace pgmosaic::router
