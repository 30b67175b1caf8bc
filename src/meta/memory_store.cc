#include "meta/memory_store.h"

#include <algorithm>

namespace pgmosaic::meta {

void MemoryStore::end_lease(LeaseId lease) {
  leases_.erase(lease);
  const auto bound = [&](const auto& cell) { return cell.second.lease == lease && cell.second.value; };
  if (std::none_of(cells_.begin(), cells_.end(), bound)) return;
  ++revision_;
  for (auto& [key, cell] : cells_)
    if (cell.lease == lease && cell.value) cell = Cell{std::nullopt, revision_, 0};
  forget_tombstones();
}

void MemoryStore::expire() {
  const int64_t now = clock_();
  for (;;) {
    const auto ended = std::find_if(leases_.begin(), leases_.end(),
                                    [&](const auto& lease) { return lease.second.deadline_ms <= now; });
    if (ended == leases_.end()) return;
    end_lease(ended->first);
  }
}

void MemoryStore::forget_tombstones() {
  if (revision_ <= kKeptRevisions) return;
  const Revision horizon = revision_ - kKeptRevisions;
  std::erase_if(cells_, [&](const auto& cell) { return !cell.second.value && cell.second.version <= horizon; });
  compacted_ = horizon;
}

Revision MemoryStore::version_of(std::string_view key) const {
  const auto cell = cells_.find(key);
  return cell == cells_.end() || !cell->second.value ? 0 : cell->second.version;
}

Result<std::optional<Entry>> MemoryStore::get(std::string_view key) {
  const std::lock_guard lock(mutex_);
  expire();
  const auto cell = cells_.find(key);
  if (cell == cells_.end() || !cell->second.value) return std::optional<Entry>();
  return std::optional<Entry>(Entry{cell->first, *cell->second.value, cell->second.version, cell->second.lease});
}

Result<Entries> MemoryStore::read_prefix(std::string_view prefix) {
  const std::lock_guard lock(mutex_);
  expire();
  Entries read{{}, revision_};
  for (auto cell = cells_.lower_bound(prefix); cell != cells_.end() && cell->first.starts_with(prefix); ++cell) {
    if (!cell->second.value) continue;
    read.entries.push_back({cell->first, *cell->second.value, cell->second.version, cell->second.lease});
  }
  return read;
}

Result<CommitResult> MemoryStore::commit(const Txn& txn) {
  const std::lock_guard lock(mutex_);
  expire();
  for (const Txn::Compare& compare : txn.compares)
    if (version_of(compare.key) != compare.version) return CommitResult{false, revision_};
  for (const Txn::Put& put : txn.puts)
    if (put.lease != 0 && !leases_.contains(put.lease)) return lease_ended(put.lease);
  const bool deletes_something =
      std::any_of(txn.deletes.begin(), txn.deletes.end(), [&](const auto& key) { return version_of(key) != 0; });
  if (txn.puts.empty() && !deletes_something) return CommitResult{true, revision_};
  ++revision_;
  for (const Txn::Put& put : txn.puts) cells_[put.key] = Cell{put.value, revision_, put.lease};
  for (const std::string& key : txn.deletes)
    if (version_of(key) != 0) cells_[key] = Cell{std::nullopt, revision_, 0};
  forget_tombstones();
  return CommitResult{true, revision_};
}

Result<Changes> MemoryStore::changes_since(Revision revision, std::string_view prefix) {
  const std::lock_guard lock(mutex_);
  expire();
  Changes result{{}, revision_, revision < compacted_};
  if (result.compacted) return result;
  for (auto cell = cells_.lower_bound(prefix); cell != cells_.end() && cell->first.starts_with(prefix); ++cell)
    if (cell->second.version > revision)
      result.changes.push_back({cell->first, cell->second.value, cell->second.version});
  std::stable_sort(result.changes.begin(), result.changes.end(),
                   [](const Change& a, const Change& b) { return a.version < b.version; });
  return result;
}

Result<LeaseId> MemoryStore::grant_lease(int64_t ttl_ms) {
  const std::lock_guard lock(mutex_);
  expire();
  const LeaseId lease = next_lease_++;
  leases_[lease] = Lease{ttl_ms, clock_() + ttl_ms};
  return lease;
}

Status MemoryStore::renew_lease(LeaseId lease) {
  const std::lock_guard lock(mutex_);
  expire();
  const auto found = leases_.find(lease);
  if (found == leases_.end()) return lease_ended(lease);
  found->second.deadline_ms = clock_() + found->second.ttl_ms;
  return {};
}

Status MemoryStore::revoke_lease(LeaseId lease) {
  const std::lock_guard lock(mutex_);
  expire();
  end_lease(lease);
  return {};
}

}  // namespace pgmosaic::meta
