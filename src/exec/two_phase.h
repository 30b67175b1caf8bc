// The commit protocol over several groups (DESIGN §5) as a machine without I/O, the names of its transactions, and the
// SQL each step sends.
//
//   anchor:  SELECT pg_catalog.pgmosaic_log_commit(gid, participants, …); COMMIT       -- the row is the decision
//   others:  …log_commit…; SET LOCAL ROLE none; PREPARE TRANSACTION gid     -- before the anchor commits
//            COMMIT PREPARED gid                                            -- after
//
// gid = pgmosaic_<cluster>_<anchor group>_<router>_<number>; a group prepares under gid_<group>, since two groups can
// share a server. At most 199 bytes.
//
// A transaction that its client prepares (PREPARE TRANSACTION 'name') is parked: the home is the anchor, and prepares
// it under the client's name where it would commit. What the client says to the home is the decision then; the others
// wait under pgmosaic-parked_… for it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace pgmosaic::exec {

struct Gid {
  std::string cluster;  // without underscores
  uint32_t anchor = 0;
  std::string router;  // without underscores
  uint64_t number = 0;
  bool parked = false;

  std::string text() const;
  // What `group` prepares.
  std::string prepared_text(uint32_t group) const;
  // nullopt: not one of ours (foreign prepared transactions are left alone).
  static std::optional<Gid> parse(std::string_view text);
  // Begins as ours do: not for users.
  static bool reserved(std::string_view text);
};

// The name of a prepared transaction, taken apart.
struct PreparedGid {
  Gid gid;
  uint32_t group = 0;
  static std::optional<PreparedGid> parse(std::string_view text);
};

// What a participant's row in the commit log says besides its gid, and what the router signs it with: users can call
// the function that writes rows.
struct CommitRow {
  uint64_t label = 0;  // of the router's transactions: see exec/untorn.h
  std::string secret;
};

// COMMIT or ROLLBACK PREPARED of what `group` has prepared of the transaction.
std::string end_prepared_sql(const Gid& gid, uint32_t group, bool commit);

class TwoPhase {
 public:
  struct Participant {
    uint32_t group = 0;
    bool must_be_anchor = false;  // cannot PREPARE (temporary tables, NOTIFY, …)
  };
  enum class Step : uint8_t {
    prepare,          // send prepare_sql() to every group of others()
    commit_anchor,    // send anchor_sql() to anchor()
    commit_prepared,  // send commit_prepared_sql() to prepared(), then told()
    abort,            // rollback_prepared_sql() to prepared(), then told(); ROLLBACK elsewhere
    resolve,          // the anchor's answer is unknown: ask for the decision (exec/inquiry.h), then decided()
    finish,           // committed, and unfinished() have not confirmed it: tell them again for a while, then finished()
    done              // parked, ended(), or left to recovery
  };

  // `participants` in the order in which they first wrote. nullopt: two of them must be the anchor.
  static std::optional<TwoPhase> make(std::vector<Participant> participants, Gid gid);
  // Of a transaction to be parked: `sql`, PREPARE TRANSACTION, is what the anchor says instead of COMMIT.
  static TwoPhase park(uint32_t home, const std::vector<uint32_t>& others, Gid gid, std::string sql);

  Step step() const { return step_; }
  uint32_t anchor() const { return gid_.anchor; }
  const std::vector<uint32_t>& others() const { return others_; }
  const std::vector<uint32_t>& prepared() const { return prepared_; }
  const std::vector<uint32_t>& unfinished() const { return unfinished_; }
  bool committed() const { return committed_; }
  // All groups have done what was decided. False, when done: recovery shall see to it.
  bool ended() const { return ended_; }
  const Gid& gid() const { return gid_; }
  // The anchor and all others.
  std::vector<uint32_t> groups() const;
  // REQUIRED before any SQL is asked for.
  void set_row(CommitRow row) { row_ = std::move(row); }

  enum class Outcome : uint8_t { success, failure, unknown };
  void prepared(uint32_t group, Outcome outcome);  // unknown: the connection was lost while preparing
  void anchor_committed(Outcome outcome);
  void decided(bool commit);
  void undecided();                             // nobody can tell now
  void told(std::vector<uint32_t> unfinished);  // phase two; those that did not confirm it
  void finished(bool everywhere);

  std::string prepare_sql(uint32_t group) const;
  std::string anchor_sql() const;
  std::string commit_prepared_sql(uint32_t group) const;
  std::string rollback_prepared_sql(uint32_t group) const;

 private:
  std::string log_sql(uint32_t group) const;
  Gid gid_;
  std::vector<uint32_t> others_, prepared_, unfinished_;
  std::size_t answers_ = 0;
  bool failed_ = false, committed_ = false, ended_ = false;
  Step step_ = Step::prepare;
  CommitRow row_;
  std::string park_sql_;
};

}  // namespace pgmosaic::exec
