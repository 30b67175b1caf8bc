// CPU per row of splitting a COPY stream, hashing included; rows of about 60 bytes in messages of 64 KiB.
#include <benchmark/benchmark.h>

#include "base/bytes.h"
#include "exec/copy_split.h"

namespace {

using namespace pgmosaic;
using Format = plan::CopyIn::Format;

constexpr std::size_t kRows = 100'000, kMessage = 64 * 1024;

catalog::Colocation sixteen_shards() {
  catalog::Colocation colocation;
  for (uint32_t i = 0; i < 16; ++i) colocation.shards.push_back({i + 1, 16, i, i % 4 + 1});
  return colocation;
}

plan::CopyIn spec_of(Format format, int key_field, catalog::Oid type) {
  plan::CopyIn spec;
  spec.format = format;
  spec.key_fields = {key_field};
  spec.key_types = {type};
  spec.key_typmods = {-1};
  if (format == Format::csv) {
    spec.delimiter = ',';
    spec.null_text = "";
  }
  return spec;
}

std::string text_rows(char delimiter, bool quoted) {
  std::string stream;
  for (std::size_t i = 0; i < kRows; ++i) {
    stream += std::to_string(1'000'000 + i * 7919 % 9'000'000) + delimiter + std::to_string(i % 1000) + delimiter;
    stream += quoted ? "\"some payload, that is quoted\"" : "some payload that is not long";
    stream += std::string(1, delimiter) + "2024-05-17" + delimiter + "12.75\n";
  }
  return stream;
}

std::string binary_rows() {
  std::string stream("PGCOPY\n\377\r\n\0\0\0\0\0\0\0\0\0", 19);
  for (std::size_t i = 0; i < kRows; ++i) {
    append_big_endian<int16_t>(stream, 3);
    append_big_endian<int32_t>(stream, 8);
    append_big_endian<int64_t>(stream, static_cast<int64_t>(i * 7919 % 9'000'000));
    append_big_endian<int32_t>(stream, 4);
    append_big_endian<int32_t>(stream, static_cast<int32_t>(i));
    append_big_endian<int32_t>(stream, 30);
    stream.append(30, 'x');
  }
  return stream;
}

void run(benchmark::State& state, const plan::CopyIn& spec, const std::string& stream) {
  const catalog::Colocation colocation = sixteen_shards();
  for (auto _ : state) {
    exec::CopySplitter splitter(spec, colocation, {});
    for (std::size_t at = 0; at < stream.size(); at += kMessage) {
      if (!splitter.feed(std::string_view(stream).substr(at, kMessage))) state.SkipWithError("refused");
      for (std::size_t group = 0; group < splitter.groups().size(); ++group) {
        benchmark::DoNotOptimize(splitter.buffer(group).data());
        splitter.buffer(group).clear();
      }
    }
    if (!splitter.finish() || splitter.rows() != kRows) state.SkipWithError("wrong number of rows");
  }
  const auto rows = static_cast<double>(kRows) * static_cast<double>(state.iterations());
  state.counters["rows/s"] = benchmark::Counter(rows, benchmark::Counter::kIsRate);
  state.counters["time/row"] = benchmark::Counter(rows, benchmark::Counter::kIsRate | benchmark::Counter::kInvert);
  state.SetBytesProcessed(static_cast<int64_t>(state.iterations()) * static_cast<int64_t>(stream.size()));
}

void text_bigint_first(benchmark::State& state) { run(state, spec_of(Format::text, 0, 20), text_rows('\t', false)); }
void text_text_third(benchmark::State& state) { run(state, spec_of(Format::text, 2, 25), text_rows('\t', false)); }
void text_date_fourth(benchmark::State& state) { run(state, spec_of(Format::text, 3, 1082), text_rows('\t', false)); }
void csv_bigint_first(benchmark::State& state) { run(state, spec_of(Format::csv, 0, 20), text_rows(',', true)); }
void csv_numeric_last(benchmark::State& state) { run(state, spec_of(Format::csv, 4, 1700), text_rows(',', true)); }
void binary_bigint_first(benchmark::State& state) { run(state, spec_of(Format::binary, 0, 20), binary_rows()); }

BENCHMARK(text_bigint_first);
BENCHMARK(text_text_third);
BENCHMARK(text_date_fourth);
BENCHMARK(csv_bigint_first);
BENCHMARK(csv_numeric_last);
BENCHMARK(binary_bigint_first);

}  // namespace
