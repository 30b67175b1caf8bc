#include "catalog/partition_bounds.h"

#include <algorithm>
#include <charconv>

#include "catalog/key_order.h"

namespace pgmosaic::catalog {
namespace {

// A table of remainders larger than this is not worth its memory: the home is asked instead.
constexpr uint32_t kLargestModulus = 1U << 16;

// In front of each column's order key within a range key.
constexpr char kMinValue = 0, kValue = 1, kMaxValue = 2;

struct Item {
  enum class Kind : uint8_t { value, null, minimum, maximum } kind = Kind::value;
  std::string text;
};

// The reader of one bound's text.
class BoundReader {
 public:
  explicit BoundReader(std::string_view text) : rest_(text) {}

  bool take(std::string_view word) {
    while (rest_.starts_with(' ')) rest_.remove_prefix(1);
    if (!rest_.starts_with(word)) return false;
    rest_.remove_prefix(word.size());
    return true;
  }
  bool list(std::vector<Item>& items);
  bool number(uint32_t& out);

 private:
  Item item();

  std::string_view rest_;
};

Item BoundReader::item() {
  Item result;
  if (take("'")) {
    for (; !rest_.empty(); rest_.remove_prefix(1)) {
      if (rest_[0] == '\'') {
        rest_.remove_prefix(1);
        if (!rest_.starts_with('\'')) break;
      }
      result.text += rest_[0];
    }
    return result;
  }
  while (!rest_.empty() && rest_[0] != ',' && rest_[0] != ')') {
    result.text += rest_[0];
    rest_.remove_prefix(1);
  }
  if (result.text == "NULL") result.kind = Item::Kind::null;
  if (result.text == "MINVALUE") result.kind = Item::Kind::minimum;
  if (result.text == "MAXVALUE") result.kind = Item::Kind::maximum;
  return result;
}

// ( item [, …] )
bool BoundReader::list(std::vector<Item>& items) {
  if (!take("(")) return false;
  do {
    take(" ");
    items.push_back(item());
  } while (take(","));
  return take(")");
}

bool BoundReader::number(uint32_t& out) {
  take(" ");
  const auto [end, error] = std::from_chars(rest_.data(), rest_.data() + rest_.size(), out);
  if (error != std::errc()) return false;
  rest_.remove_prefix(static_cast<size_t>(end - rest_.data()));
  return true;
}

constexpr TextContext kBoundText{.standard_timezone_utc = true};

bool append_item(std::string& key, const Item& item, Oid type) {
  if (item.kind == Item::Kind::null) return false;
  key += item.kind == Item::Kind::minimum ? kMinValue : item.kind == Item::Kind::maximum ? kMaxValue : kValue;
  return item.kind != Item::Kind::value || append_order_key(key, type, ValueFormat::text, item.text, kBoundText);
}

}  // namespace

PartitionBounds::PartitionBounds(Method method, std::vector<KeyColumn> key, const std::vector<std::string>& texts,
                                 bool tellable)
    : method_(method), key_(std::move(key)), tellable_(tellable) {
  using Compared = KeyColumn::Compared;
  for (const KeyColumn& column : key_) {
    if (column.compared == Compared::unknown) tellable_ = false;
    if (method_ == Method::range && column.compared != Compared::by_order) tellable_ = false;
    if (method_ == Method::hash && !hashable_key_type(column.type)) tellable_ = false;
  }
  for (uint32_t shard = 0; shard < texts.size() && tellable_; ++shard) tellable_ = read(texts[shard], shard);
  std::sort(ranges_.begin(), ranges_.end(), [](const Range& a, const Range& b) { return a.lower < b.lower; });
}

bool PartitionBounds::read(const std::string& text, uint32_t shard) {
  if (text == "DEFAULT") {
    default_shard_ = shard;
    return true;
  }
  BoundReader reader(text);
  if (!reader.take("FOR VALUES")) return false;
  switch (method_) {
    case Method::range: {
      std::vector<Item> from, to;
      if (!reader.take("FROM") || !reader.list(from) || !reader.take("TO") || !reader.list(to)) return false;
      if (from.size() != key_.size() || to.size() != key_.size()) return false;
      Range range;
      range.shard = shard;
      for (size_t i = 0; i < key_.size(); ++i)
        if (!append_item(range.lower, from[i], key_[i].type) || !append_item(range.upper, to[i], key_[i].type))
          return false;
      ranges_.push_back(std::move(range));
      return true;
    }
    case Method::list: {
      std::vector<Item> items;
      if (!reader.take("IN") || !reader.list(items)) return false;
      for (const Item& item : items) {
        std::string key;
        if (item.kind == Item::Kind::null) {
          null_shard_ = shard;
        } else {
          if (!append_item(key, item, key_[0].type)) return false;
          values_[std::move(key)] = shard;
        }
      }
      return true;
    }
    case Method::hash: {
      uint32_t modulus = 0, remainder = 0;
      if (!reader.take("WITH") || !reader.take("(") || !reader.take("modulus") || !reader.number(modulus) ||
          !reader.take(",") || !reader.take("remainder") || !reader.number(remainder) || modulus == 0 ||
          modulus > kLargestModulus)
        return false;
      // Each modulus divides the next larger one: the table doubles, or more, to hold it.
      const size_t size = remainders_.size();
      if (modulus > size) {
        remainders_.resize(modulus, kNone);
        for (size_t i = size; size > 0 && i < modulus; ++i) remainders_[i] = remainders_[i % size];
      }
      for (size_t i = remainder; i < remainders_.size(); i += modulus) remainders_[i] = shard;
      return true;
    }
  }
  return false;
}

uint32_t PartitionBounds::find_range(const std::string& key) const {
  auto after = std::upper_bound(ranges_.begin(), ranges_.end(), key,
                                [](const std::string& value, const Range& range) { return value < range.lower; });
  if (after == ranges_.begin()) return default_shard_;
  const Range& range = *std::prev(after);
  return key < range.upper ? range.shard : default_shard_;
}

bool PartitionBounds::first_key(std::string& key, ValueFormat format, std::string_view value,
                                const TextContext& context) const {
  key = kValue;
  return append_order_key(key, key_[0].type, format, value, context);
}

std::vector<uint32_t> PartitionBounds::between(const std::optional<std::string>& lower,
                                               const std::optional<std::string>& upper, bool upper_inclusive) const {
  std::vector<uint32_t> shards;
  for (const Range& range : ranges_) {
    const bool below = lower && range.upper <= *lower;
    // A lower bound that begins with the value has it, and further columns.
    const bool above =
        upper && (upper_inclusive ? range.lower > *upper && !range.lower.starts_with(*upper) : range.lower >= *upper);
    if (!below && !above) shards.push_back(range.shard);
  }
  if (default_shard_ != kNone) shards.push_back(default_shard_);
  return shards;
}

void PartitionBounds::Row::add_null() {
  ++columns_;
  null_ = true;
}

bool PartitionBounds::Row::add(ValueFormat format, std::string_view value, const TextContext& context) {
  const Oid type = bounds_.key_[columns_++].type;
  if (bounds_.method_ == Method::hash) {
    const auto hash = hash_key_value(type, format, value, context);
    if (hash) hash_ = combine_hash(hash_, *hash);
    return hash.has_value();
  }
  key_ += kValue;
  return append_order_key(key_, type, format, value, context);
}

uint32_t PartitionBounds::Row::find() const {
  switch (bounds_.method_) {
    case Method::hash:
      return bounds_.remainders_.empty() ? kNone : bounds_.remainders_[hash_ % bounds_.remainders_.size()];
    case Method::list: {
      if (null_) return bounds_.null_shard_ != kNone ? bounds_.null_shard_ : bounds_.default_shard_;
      const auto found = bounds_.values_.find(key_);
      return found != bounds_.values_.end() ? found->second : bounds_.default_shard_;
    }
    case Method::range: return null_ ? bounds_.default_shard_ : bounds_.find_range(key_);
  }
  return kNone;
}

}  // namespace pgmosaic::catalog
