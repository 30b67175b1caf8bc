// Dates and timestamps in strict ISO form, which means the same under every DateStyle.
//   YYYY-MM-DD[( |T)HH:MM[:SS[.f…]][Z|±HH[:MM[:SS]]]]   year 0001 and later, four digits or more, 1–6 fraction digits
//   infinity, -infinity
// Everything else (24:00, second 60, BC, month names, time zone names, longer fractions) is PostgreSQL's to read.
#include <limits>

#include "catalog/hashing_types.h"

namespace pgmosaic::catalog {
namespace {

constexpr int64_t kMicrosecondsPerSecond = 1'000'000;
constexpr int64_t kMicrosecondsPerDay = 86'400 * kMicrosecondsPerSecond;
constexpr int32_t kFirstDay = -2'451'545;        // 4714-11-24 BC, for dates and timestamps
constexpr int32_t kLastDate = 2'145'031'948;     // 5874897-12-31
constexpr int32_t kLastTimestamp = 106'751'982;  // 294276-12-31
constexpr int64_t kFirstMicrosecond = kFirstDay * kMicrosecondsPerDay;
constexpr int64_t kLastMicrosecond = (kLastTimestamp + int64_t{1}) * kMicrosecondsPerDay - 1;

bool is_digit(char c) { return c >= '0' && c <= '9'; }

// Reads a fixed form from the front of a text.
class Reader {
 public:
  explicit Reader(std::string_view text) : rest_(text) {}

  bool at_end() const { return rest_.empty(); }
  bool take(char c) {
    if (!rest_.starts_with(c)) return false;
    rest_.remove_prefix(1);
    return true;
  }
  // Exactly two digits, at most `most`.
  bool take_two_digits(int most, int& value) {
    if (rest_.size() < 2 || !is_digit(rest_[0]) || !is_digit(rest_[1])) return false;
    value = (rest_[0] - '0') * 10 + (rest_[1] - '0');
    rest_.remove_prefix(2);
    return value <= most;
  }
  // All digits up to `most`; how many there were.
  size_t take_digits(size_t most, int& value) {
    size_t size = 0;
    for (value = 0; size < rest_.size() && size < most && is_digit(rest_[size]); ++size)
      value = value * 10 + (rest_[size] - '0');
    rest_.remove_prefix(size);
    return size;
  }
  bool next_is_digit() const { return !rest_.empty() && is_digit(rest_[0]); }

 private:
  std::string_view rest_;
};

// Days since 2000-01-01 in the proleptic Gregorian calendar. Years begin in March here, so leap days come last.
int32_t day_number(int year, int month, int day) {
  if (month <= 2) {
    --year;
    month += 12;
  }
  return year * 365 + year / 4 - year / 100 + year / 400 + (153 * (month - 3) + 2) / 5 + day - 1 - 730'425;
}

bool read_date(Reader& reader, int32_t& days) {
  constexpr int kDaysInMonth[] = {31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
  int year = 0, month = 0, day = 0;
  const size_t digits = reader.take_digits(7, year);
  // Without leading zeros a year is written in one way; 5,874,897 is the last one.
  if (digits < 4 || year == 0 || (digits > 4 && year < 10'000) || year > 5'874'897) return false;
  if (!reader.take('-') || !reader.take_two_digits(12, month) || month == 0) return false;
  if (!reader.take('-') || !reader.take_two_digits(kDaysInMonth[month - 1], day) || day == 0) return false;
  if (month == 2 && day == 29 && (year % 4 != 0 || (year % 100 == 0 && year % 400 != 0))) return false;
  days = day_number(year, month, day);
  return true;
}

// HH:MM[:SS[.f…]]
bool read_time(Reader& reader, int64_t& microseconds) {
  int hour = 0, minute = 0, second = 0, fraction = 0;
  if (!reader.take_two_digits(23, hour) || !reader.take(':') || !reader.take_two_digits(59, minute)) return false;
  if (reader.take(':')) {
    if (!reader.take_two_digits(59, second)) return false;
    if (reader.take('.')) {
      size_t digits = reader.take_digits(6, fraction);
      if (digits == 0 || reader.next_is_digit()) return false;
      for (; digits < 6; ++digits) fraction *= 10;
    }
  }
  microseconds = ((hour * 60 + minute) * 60 + second) * kMicrosecondsPerSecond + fraction;
  return true;
}

// Z or ±HH[:MM[:SS]], seconds east of Greenwich.
bool read_zone(Reader& reader, int& east_s) {
  east_s = 0;
  if (reader.take('Z')) return true;
  const bool west = reader.take('-');
  if (!west && !reader.take('+')) return false;
  int hour = 0, minute = 0, second = 0;
  if (!reader.take_two_digits(15, hour)) return false;
  if (reader.take(':')) {
    if (!reader.take_two_digits(59, minute)) return false;
    if (reader.take(':') && !reader.take_two_digits(59, second)) return false;
  }
  east_s = (hour * 60 + minute) * 60 + second;
  if (west) east_s = -east_s;
  return true;
}

struct Moment {
  int64_t local_us = 0;  // microseconds since 2000-01-01 00:00 as the clock on the wall shows
  std::optional<int> east_s;
};

std::optional<Moment> read_moment(std::string_view text) {
  Reader reader(text);
  int32_t days = 0;
  int64_t time = 0;
  Moment moment;
  if (!read_date(reader, days) || days > kLastTimestamp) return std::nullopt;
  if (!reader.at_end()) {
    if (!reader.take(' ') && !reader.take('T')) return std::nullopt;
    if (!read_time(reader, time)) return std::nullopt;
    if (!reader.at_end()) {
      int east_s = 0;
      if (!read_zone(reader, east_s) || !reader.at_end()) return std::nullopt;
      moment.east_s = east_s;
    }
  }
  moment.local_us = days * kMicrosecondsPerDay + time;
  return moment;
}

template <class Integer>
std::optional<Integer> parse_infinity(std::string_view text) {
  if (text == "infinity") return std::numeric_limits<Integer>::max();
  if (text == "-infinity") return std::numeric_limits<Integer>::min();
  return std::nullopt;
}

template <class Integer>
bool is_infinite(Integer value) {
  return value == std::numeric_limits<Integer>::max() || value == std::numeric_limits<Integer>::min();
}

}  // namespace

bool is_valid_date(int32_t days) { return is_infinite(days) || (days >= kFirstDay && days <= kLastDate); }

bool is_valid_timestamp(int64_t microseconds) {
  return is_infinite(microseconds) || (microseconds >= kFirstMicrosecond && microseconds <= kLastMicrosecond);
}

std::optional<int32_t> parse_date(std::string_view text) {
  Reader reader(text);
  int32_t days = 0;
  if (read_date(reader, days) && reader.at_end()) return days;
  return parse_infinity<int32_t>(text);
}

// A zone in the text is read and ignored, as PostgreSQL does.
std::optional<int64_t> parse_timestamp(std::string_view text) {
  if (const std::optional<Moment> moment = read_moment(text)) return moment->local_us;
  return parse_infinity<int64_t>(text);
}

std::optional<int64_t> parse_timestamptz(std::string_view text, const TextContext& context) {
  if (const std::optional<Moment> moment = read_moment(text)) {
    if (!moment->east_s && !context.standard_timezone_utc) return std::nullopt;
    const int64_t utc_us = moment->local_us - moment->east_s.value_or(0) * kMicrosecondsPerSecond;
    if (!is_valid_timestamp(utc_us)) return std::nullopt;
    return utc_us;
  }
  return parse_infinity<int64_t>(text);
}

}  // namespace pgmosaic::catalog
