#include "exec/gather.h"

#include "exec/compare.h"
#include "pg/backend.h"

namespace pgmosaic::exec {

namespace {

using Event = RowReader::Event;

// A DataRow without its last columns.
void write_trimmed_row(std::string& out, const std::vector<std::optional<std::string_view>>& values, std::size_t keep) {
  std::vector<std::optional<std::string_view>> kept(values.begin(), values.begin() + static_cast<std::ptrdiff_t>(keep));
  pg::write_data_row(out, kept);
}

// A function has said it while it ran, not a parser or planner, which say the same on every group.
bool has_context(std::string_view notice) {
  pg::FieldReader reader(notice);
  for (char code = static_cast<char>(reader.int8()); code != 0 && !reader.bad();
       code = static_cast<char>(reader.int8())) {
    reader.string();
    if (code == 'W') return true;
  }
  return false;
}

class Gatherer {
 public:
  Gatherer(std::vector<RowReader>& readers, const GatherOptions& options, RowSink& sink)
      : readers_(readers), options_(options), sink_(sink) {}

  net::Task<Result<GatherResult>> run() {
    Status status;
    if (!options_.order.empty()) {
      status = co_await in_order();
    } else if (options_.merge.empty()) {
      status = co_await concatenate();
    } else {
      status = co_await merge();
    }
    if (!status.ok()) {
      // What the other groups still send is of no use.
      for (RowReader& reader : readers_) (void)(co_await reader.finish());
      co_return std::move(status.error());
    }
    co_return std::move(result_);
  }

 private:
  bool describe(const pg::MessageView& message) {
    pg::parse_row_description(message.body, fields_);
    if (described_ || !options_.describe) return true;
    described_ = true;
    if (options_.hidden_columns == 0) return sink_.put(message.whole);
    std::vector<pg::FieldDescription> visible(fields_.begin(), fields_.end() - options_.hidden_columns);
    std::string out;
    pg::write_row_description(out, visible);
    return sink_.put(out);
  }

  // The reader's next event, once the client has what the group said before it.
  net::Task<Result<Event>> next(RowReader& reader) {
    auto event = co_await reader.next();
    const std::string notices = reader.take_notices();
    if (!notices.empty()) pass_notices(notices, &reader == &readers_[0]);
    co_return event;
  }

  void pass_notices(std::string_view notices, bool first) {
    if (first) sink_.put(notices);
    if (first || options_.first_only) return;
    pg::MessageView notice;
    for (uint32_t length = 0; pg::peek_message(notices, notice, length) == pg::FrameStatus::complete;
         notices.remove_prefix(length))
      if (has_context(notice.body)) sink_.put(notice.whole);
  }

  // One row for the client, in order. False: the client is gone.
  bool emit(std::string_view whole) {
    if (seen_++ < options_.offset) return true;
    if (options_.limit && result_.rows >= *options_.limit) return true;
    ++result_.rows;
    if (options_.hidden_columns == 0) return sink_.put(whole);
    pg::parse_data_row(whole.substr(pg::kHeaderSize), values_);
    scratch_.clear();
    write_trimmed_row(scratch_, values_, values_.size() - options_.hidden_columns);
    return sink_.put(scratch_);
  }

  // One CopyData of a group: several streams become one, with one header and one trailer.
  bool copy_piece(const pg::MessageView& message, bool first, bool& at_start) {
    copied_ = true;
    std::string_view data = message.body;
    const bool begins = std::exchange(at_start, false);
    if (options_.copy_binary) {
      if (data.size() == 2 && load_big_endian<int16_t>(data.data()) == -1) return true;  // the trailer
      const bool trailer_inside = begins && data.size() == kBinaryHeader + 2;            // no rows at all
      if (trailer_inside) data.remove_suffix(2);
      if (begins && !first) data.remove_prefix(std::min(kBinaryHeader, data.size()));
      if (data.empty()) return true;
      if (data.size() == message.body.size()) return sink_.put(message.whole);
      scratch_.clear();
      pg::MessageWriter(scratch_, 'd').bytes(data);
      return sink_.put(scratch_);
    }
    if (options_.copy_header && begins && !first) return true;
    return sink_.put(message.whole);
  }
  static constexpr std::size_t kBinaryHeader = 19;  // signature, flags, length of the extension

  void note_tag(const std::string& tag, bool first) {
    if (options_.first_only && !first) return;
    const auto rows = pg::tag_rows(tag);
    if (!rows) {
      result_.tag = tag;
      return;
    }
    total_ += *rows;
    const std::string command = tag.substr(0, tag.rfind(' '));
    result_.tag = command + " " + std::to_string(command == "SELECT" ? result_.rows : total_);
  }

  static Error client_gone() { return make_error("08006", "the client went away"); }

  net::Task<Status> concatenate() {
    bool first = true;
    for (RowReader& reader : readers_) {
      bool at_start = true;  // of this group's COPY stream
      for (;;) {
        auto event = co_await next(reader);
        if (!event.ok()) co_return std::move(event.error());
        if (*event == Event::end) break;
        const bool show = first || !options_.first_only;
        bool alive = true;
        if (*event == Event::description) alive = describe(reader.message());
        if (*event == Event::row && show) alive = emit(reader.message().whole);
        if (*event == Event::copy_out && first) alive = sink_.put(reader.message().whole);
        if (*event == Event::copy_data && show) alive = copy_piece(reader.message(), first, at_start);
        if (*event == Event::copy_done) copied_ = true;
        if (*event == Event::complete) note_tag(reader.tag(), first);
        if (alive) alive = co_await sink_.throttle();
        if (!alive) co_return client_gone();
      }
      first = false;
    }
    if (copied_) {
      std::string end;
      if (options_.copy_binary) pg::MessageWriter(end, 'd').int16(-1);
      pg::write_empty(end, 'c');
      sink_.put(end);
    }
    co_return Status{};
  }

  struct Head {
    std::string row;
    std::vector<std::optional<std::string_view>> values;
    bool ended = false;
  };

  net::Task<Status> advance(std::size_t index) {
    Head& head = heads_[index];
    for (;;) {
      auto event = co_await next(readers_[index]);
      if (!event.ok()) co_return std::move(event.error());
      if (*event == Event::description && !describe(readers_[index].message())) co_return client_gone();
      if (*event == Event::complete) note_tag(readers_[index].tag(), true);
      if (*event == Event::row) {
        head.row = readers_[index].message().whole;
        pg::parse_data_row(std::string_view(head.row).substr(pg::kHeaderSize), head.values);
        co_return Status{};
      }
      if (*event == Event::end) {
        head.ended = true;
        co_return Status{};
      }
    }
  }

  bool before(const Head& left, const Head& right) const {
    for (const plan::SortKey& key : options_.merge) {
      const bool binary = key.column < fields_.size() && fields_[key.column].format == 1;
      const int order = compare_by(key, binary, left.values[key.column], right.values[key.column]);
      if (order != 0) return order < 0;
    }
    return false;
  }

  net::Task<Status> in_order() {
    heads_.resize(readers_.size());
    for (std::size_t index : options_.order) {
      if (heads_[index].ended) continue;  // ON CONFLICT DO NOTHING, or a trigger, gave fewer rows
      CO_TRY(co_await advance(index));
      bool alive = heads_[index].ended || emit(heads_[index].row);
      if (alive) alive = co_await sink_.throttle();
      if (!alive) co_return client_gone();
    }
    for (std::size_t index = 0; index < heads_.size(); ++index) {
      while (!heads_[index].ended) CO_TRY(co_await advance(index));
    }
    co_return Status{};
  }

  net::Task<Status> merge() {
    heads_.resize(readers_.size());
    for (std::size_t i = 0; i < readers_.size(); ++i) CO_TRY(co_await advance(i));
    for (;;) {
      std::size_t least = heads_.size();
      for (std::size_t i = 0; i < heads_.size(); ++i)
        if (!heads_[i].ended && (least == heads_.size() || before(heads_[i], heads_[least]))) least = i;
      if (least == heads_.size()) break;
      bool alive = emit(heads_[least].row);
      if (alive) alive = co_await sink_.throttle();
      if (!alive) co_return client_gone();
      CO_TRY(co_await advance(least));
    }
    if (result_.tag.starts_with("SELECT")) result_.tag = "SELECT " + std::to_string(result_.rows);
    co_return Status{};
  }

  std::vector<RowReader>& readers_;
  const GatherOptions& options_;
  RowSink& sink_;
  GatherResult result_;
  std::vector<pg::FieldDescription> fields_;
  std::vector<Head> heads_;
  std::vector<std::optional<std::string_view>> values_;
  std::string scratch_;
  uint64_t seen_ = 0, total_ = 0;
  bool described_ = false, copied_ = false;
};

}  // namespace

net::Task<Result<GatherResult>> gather(std::vector<RowReader>& readers, const GatherOptions& options, RowSink& sink) {
  Gatherer gatherer(readers, options, sink);
  co_return co_await gatherer.run();
}

}  // namespace pgmosaic::exec
