#include "control/introspect_sequences.h"

namespace pgmosaic::control {

namespace {

using catalog::Oid;

Oid oid_of(const std::optional<std::string>& text) { return text ? static_cast<Oid>(std::stoul(*text)) : 0; }

plan::DrawTexts::Calls calls_of(const Lines& rows) {
  plan::DrawTexts::Calls calls;
  for (const auto& row : rows)
    if (row[1]) calls.emplace_back(oid_of(row[0]), *row[1]);
  return calls;
}

// A view does what the views it reads do.
void follow_views(const std::vector<std::pair<Oid, Oid>>& reads, catalog::Sequences& sequences) {
  for (bool changed = true; changed;) {
    changed = false;
    for (const auto& [view, read] : reads) {
      const auto inner = sequences.of_tables.find(read);
      if (inner == sequences.of_tables.end()) continue;
      catalog::TableDraws more = inner->second;
      catalog::TableDraws& of_view = sequences.of_tables[view];
      const catalog::TableDraws before = of_view;
      of_view.naming.add(more.naming);
      of_view.writing.add(more.writing);  // a view may be written through
      of_view.defaults.add(more.defaults);
      changed = changed || !(of_view.naming == before.naming && of_view.writing == before.writing &&
                             of_view.defaults == before.defaults);
    }
  }
}

}  // namespace

void add_sequences(const Lines& rows, catalog::Database& database) {
  for (const auto& row : rows) {
    const catalog::Sequence sequence{oid_of(row[0])};
    database.sequences.by_name[{*row[1], *row[2]}] = sequence;
    database.sequences.by_oid[sequence.oid] = sequence;
  }
}

void add_draws(std::vector<plan::FunctionText> functions, const Lines& triggers, const Lines& rules,
               const Lines& unseen_calls, const Lines& cascades, const std::vector<std::pair<Oid, Oid>>& reads,
               catalog::Database& database) {
  plan::DrawTexts texts;
  texts.functions = std::move(functions);
  texts.triggers = calls_of(triggers);
  texts.rules = calls_of(rules);
  texts.naming = calls_of(unseen_calls);
  for (const auto& row : cascades)
    texts.cascades.push_back({oid_of(row[0]), oid_of(row[1]), row[2] && *row[2] == "true"});
  plan::find_draws(texts, database);
  follow_views(reads, database.sequences);
}

}  // namespace pgmosaic::control
