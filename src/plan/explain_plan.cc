#include "plan/explain_plan.h"

#include "plan/row_moves.h"
#include "plan/types.h"

namespace pgmosaic::plan {
namespace {

std::string source_text(const KeySource& source) {
  std::string type(type_name(source.type));
  std::string text;
  switch (source.kind) {
    case KeySource::Kind::literal: text = (source.negate ? "-#" : "#") + std::to_string(source.index); break;
    case KeySource::Kind::parameter: text = "$" + std::to_string(source.index + 1); break;
    case KeySource::Kind::array_param: text = "any $" + std::to_string(source.index + 1); break;
    case KeySource::Kind::null_value: return "NULL";
    case KeySource::Kind::constant: text = "'" + source.text + "'"; break;
  }
  text += ":" + type;
  if (source.value_type != 0 && source.value_type != source.type) text += "<-" + std::to_string(source.value_type);
  if (source.typmod >= 0) text += "(typmod)";
  return text;
}

std::string key_text(const KeyTuple& key) {
  std::string text = "(";
  for (const KeySource& source : key) text += (text.size() > 1 ? ", " : "") + source_text(source);
  return text + ")";
}

std::string bound_text(const Gather::Bound& bound) {
  if (bound.constant) return std::to_string(*bound.constant);
  return "$" + std::to_string(bound.parameter);
}

void add_draws(const catalog::Draws& draws, std::string& line) {
  for (catalog::Oid sequence : draws.sequences) line += " draws " + std::to_string(sequence);
  if (draws.unknown) line += " draws";
  if (draws.reads) line += " asks_numbers";
  if (draws.sets) line += " sets_numbers";
}

void add_effects(const Plan& plan, std::string& line) {
  const Effects& effects = plan.effects;
  if (plan.guarded) line += " guarded";
  if (effects.writes) line += " writes";
  if (effects.taints) line += " taints";
  if (effects.pins) line += " pins";
  if (effects.sets_config) line += " sets_config";
  if (effects.not_preparable) line += " not_preparable";
  add_draws(effects.draws, line);
}

std::string describe_fill(const Fill& fill) {
  std::string out = "  ask: " + fill.question + "\n";
  for (const Fill::Draw& draw : fill.draws)
    out += "  number " + std::to_string(draw.row) + ":" + std::to_string(draw.column) + " of " +
           std::to_string(draw.sequence) + "\n";
  return out + "  run: " + fill.statement + "\n";
}

std::string_view session_name(SessionCommand::Kind kind) {
  static constexpr std::string_view kNames[] = {"begin",
                                                "commit",
                                                "rollback",
                                                "savepoint",
                                                "release",
                                                "rollback_to",
                                                "prepare_transaction",
                                                "commit_prepared",
                                                "rollback_prepared",
                                                "set",
                                                "set_local",
                                                "reset",
                                                "reset_all",
                                                "discard_all",
                                                "discard_plans",
                                                "discard_temp",
                                                "discard_sequences",
                                                "prepare",
                                                "execute",
                                                "deallocate",
                                                "deallocate_all",
                                                "listen",
                                                "unlisten",
                                                "unlisten_all",
                                                "declare_cursor",
                                                "fetch_cursor",
                                                "close_cursor",
                                                "close_all_cursors",
                                                "set_constraints",
                                                "set_transaction",
                                                "set_session_characteristics",
                                                "empty"};
  return kNames[static_cast<int>(kind)];
}

void describe_from_query(const Ddl::FromQuery& from, std::string& out) {
  out += "  make: " + from.create + " (…)" + from.clauses + "\n  as: " + from.query +
         (from.no_data ? ", no data" : "") + "\n";
  if (from.at_home || from.execute) out += "  at home: " + from.home + "\n";
  if (from.explain_only) out += "  explain only\n";
}

void describe_ddl(const Ddl& ddl, std::string& out) {
  if (ddl.from_query) describe_from_query(*ddl.from_query, out);
  for (const std::string& sql : ddl.everywhere) out += "  everywhere: " + sql + "\n";
  for (const std::string& sql : ddl.home_instead)
    if (!sql.empty()) out += "  home instead: " + sql + "\n";
  if (ddl.new_sharded) {
    out += "  new sharded " + (ddl.new_sharded->schema.empty() ? "" : ddl.new_sharded->schema + ".") +
           ddl.new_sharded->table + " by";
    for (const std::string& key : ddl.new_sharded->key_columns) out += " " + key;
    if (ddl.new_sharded->by_partition) {
      out += " its partitions";
    } else {
      out += ", " + std::to_string(ddl.new_sharded->shard_count) + " shards";
    }
    if (ddl.new_sharded->in_partitions) out += " in each partition";
    if (!ddl.new_sharded->colocate_with.empty()) out += ", with " + ddl.new_sharded->colocate_with;
    if (!ddl.new_sharded->storage.empty()) out += ", storage " + ddl.new_sharded->storage;
    if (ddl.new_sharded->unlogged) out += ", unlogged";
    if (ddl.new_sharded->if_not_exists) out += ", if not exists";
    out += "\n";
  }
  if (ddl.new_columns) {
    out += "  new columns of " + ddl.new_columns->name + ":";
    for (const auto& column : ddl.new_columns->columns) out += " " + column.name;
    out += "\n";
    for (const auto& values : ddl.new_columns->values)
      out += "  values of " + values.column +
             (ddl.new_columns->copies   ? ": as at home"
              : values.sequence.empty() ? ": of its sequence"
                                        : ": of " + values.sequence) +
             "\n";
    for (const std::string& expression : ddl.new_columns->once) out += "  once: " + expression + "\n";
  }
  if (ddl.index) {
    const bool creates = ddl.index->verb == Ddl::IndexWork::Verb::create;
    out += std::string("  ") + (creates ? "builds" : "rebuilds") + (ddl.index->concurrently ? " concurrently" : "") +
           (ddl.index->verb == Ddl::IndexWork::Verb::rebuild_table ? " all indexes of " : " the index ") +
           (ddl.index->name.empty() ? "without name" : ddl.index->name) + "\n";
  }
  if (ddl.drops_indexes) out += std::string("  drops indexes") + (ddl.gentle ? ", giving way\n" : "\n");
  if (!ddl.alone.empty()) out += "  not in a transaction block: " + ddl.alone + "\n";
  if (ddl.replaced_leaves) out += "  replaces the table's leaves\n";
  for (const Ddl::NewPartition& partition : ddl.new_partitions)
    out += "  " + std::string(partition.adopted ? "adopted" : "new") + " partition " +
           (partition.schema.empty() ? "" : partition.schema + ".") + partition.table + "\n";
  if (ddl.new_table)
    out += std::string("  new ") + (ddl.new_table->kind == catalog::TableKind::reference ? "reference" : "local") +
           " " + (ddl.new_table->schema.empty() ? "" : ddl.new_table->schema + ".") + ddl.new_table->table + "\n";
  for (const Error& notice : ddl.notices) out += "  notice: " + notice.message + "\n";
  if (ddl.shows_rows) out += "  shows rows\n";
  if (!ddl.changes_catalog) out += "  catalog unchanged\n";
  if (ddl.moves_owner) out += "  leaves follow the owner\n";
  if (!ddl.transactional) out += "  not transactional\n";
  if (ddl.seals_sequences) out += "  seals sequences\n";
  if (!ddl.reopens_sequences_of.empty()) out += "  reopens sequences of " + ddl.reopens_sequences_of + "\n";
  if (ddl.server_wide) out += "  once per server\n";
  if (!ddl.beside_home_instead.empty()) out += "  beside the home instead: " + ddl.beside_home_instead + "\n";
  if (ddl.hash_password) out += "  hash password\n";
  if (ddl.unknown_relation) out += "  unknown relation\n";
}

void describe_key_change(const KeyChange& change, std::string& out) {
  if (!change.constants.empty()) out += "  new key " + key_text(change.constants) + "\n";
  if (change.refusal) {
    out += "  no moves: " + change.refusal->message + "\n";
    return;
  }
  out += "  claim: " + change.claim + "\n  lock: " + change.lock + "\n  take: " + change.take + "\n  key:";
  for (const std::string& value : change.new_key) out += " " + value;
  out += "\n  put: " + change.put + "<rows>" + change.put_end + "\n";
}

void describe_shape(const Plan& plan, std::string& out) {
  if (plan.key_change) describe_key_change(*plan.key_change, out);
  if (plan.point) {
    out += "  point: " + plan.point->before_leaf + "<leaf>" + plan.point->after_leaf;
    for (catalog::Oid type : plan.point->literal_types) out += " " + std::string(type_name(type));
    out += "\n";
  }
  if (plan.gather) {
    out += "  gather:";
    for (const SortKey& key : plan.gather->merge)
      out += " merge " + std::to_string(key.column) + ":" + std::string(type_name(key.type)) +
             (key.descending ? " desc" : "") + (key.nulls_first ? " nulls first" : "");
    if (plan.gather->merge.empty()) out += " concat";
    if (plan.gather->hidden_columns > 0) out += " hidden " + std::to_string(plan.gather->hidden_columns);
    if (plan.gather->limit.constant || plan.gather->limit.parameter) out += " limit " + bound_text(plan.gather->limit);
    if (plan.gather->offset.constant || plan.gather->offset.parameter)
      out += " offset " + bound_text(plan.gather->offset);
    out += "\n";
    if (!plan.gather->sql.empty()) out += "    each: " + plan.gather->sql + "\n";
  }
  if (plan.combine) {
    out += "  combine " + std::to_string(plan.combine->partial_columns) + "\n    each:  " + plan.combine->partial_sql +
           "\n    final: " + plan.combine->final_prefix + "pgmosaic_partial" + plan.combine->final_suffix + "\n";
  }
  if (plan.multi_group_error) out += "  several groups: " + plan.multi_group_error->message + "\n";
}

}  // namespace

std::string describe_target(const Target& target) {
  switch (target.kind) {
    case Target::Kind::any: return "any";
    case Target::Kind::home: return "home";
    case Target::Kind::everywhere: return "everywhere";
    case Target::Kind::all: {
      std::string text = "all(" + std::to_string(target.colocation) + ")";
      for (const KeyWindow& window : target.windows) {
        text += " within";
        for (const auto& side : window.lower) text += (side.inclusive ? " >= " : " > ") + source_text(side.value);
        for (const auto& side : window.upper) text += (side.inclusive ? " <= " : " < ") + source_text(side.value);
      }
      return text;
    }
    case Target::Kind::keys: break;
  }
  std::string text = "keys(" + std::to_string(target.colocation) + ")";
  size_t shown = 0;
  for (const KeyTuple& key : target.keys) {
    if (++shown > 8) return text + " … " + std::to_string(target.keys.size());
    text += " " + key_text(key);
  }
  return target.keys.empty() ? text + " none" : text;
}

std::string describe_plan(const Plan& plan) {
  std::string out;
  std::string flags;
  add_effects(plan, flags);
  if (plan.reference_write) flags += " reference_write";
  if (plan.single_tag) flags += " single_tag";
  if (plan.moments) flags += plan.fill && plan.fill->splits_moments ? " moments (split)" : " moments";
  if (plan.no_transaction) flags += " no_transaction";
  switch (plan.kind) {
    case PlanKind::unsupported:
      return "error " + plan.error->sqlstate + ": " + plan.error->message + "\n" +
             (plan.error->hint.empty() ? "" : "  hint: " + plan.error->hint + "\n");
    case PlanKind::route: out += "route " + describe_target(plan.target) + flags + "\n"; break;
    case PlanKind::copy_out: out += "copy out " + describe_target(plan.target) + flags + "\n"; break;
    case PlanKind::copy_in: {
      out += "copy in " + describe_target(plan.target) + flags + "\n";
      static constexpr std::string_view kFormats[] = {"text", "csv", "binary"};
      for (const CopyIn::Filled& filled : plan.copy_in->filled)
        out += "  fill " + filled.name + ": " +
               (filled.sequence != 0 ? "number of " + std::to_string(filled.sequence) : filled.expression) +
               (filled.of_each_row ? " of each row" : "") + "\n";
      if (plan.copy_in->key_fields.empty()) break;
      out += "  " + std::string(kFormats[static_cast<int>(plan.copy_in->format)]) + " delimiter '" +
             plan.copy_in->delimiter + "' null '" + plan.copy_in->null_text + "'" +
             (plan.copy_in->header ? " header" : "") + " key fields";
      for (int field : plan.copy_in->key_fields) out += " " + std::to_string(field);
      out += "\n";
      break;
    }
    case PlanKind::insert_split:
      out += "split " + std::to_string(plan.insert_split->colocation) + flags +
             "\n  prefix: " + plan.insert_split->prefix + "\n";
      for (const InsertSplit::Row& row : plan.insert_split->rows)
        out += "  row " + std::to_string(row.begin) + "-" + std::to_string(row.end) + " " + key_text(row.key) + "\n";
      if (!plan.insert_split->suffix.empty()) out += "  suffix:" + plan.insert_split->suffix + "\n";
      break;
    case PlanKind::fill: out += "fill" + flags + "\n" + describe_fill(*plan.fill); break;
    case PlanKind::ddl:
      out += "ddl " + plan.ddl->tag + "\n";
      describe_ddl(*plan.ddl, out);
      return out;
    case PlanKind::session:
      out += "session " + std::string(session_name(plan.session->kind));
      if (!plan.session->name.empty()) out += " " + plan.session->name;
      out += flags + "\n";
      if (plan.session->chain) out += "  and chain\n";
      if (!plan.session->sql.empty()) out += "  sql: " + plan.session->sql + "\n";
      for (const std::string& argument : plan.session->arguments) out += "  argument: " + argument + "\n";
      if (plan.session->inner) out += "  inner: " + describe_plan(*plan.session->inner);
      return out;
    case PlanKind::explain:
      out += "explain " + plan.explain_prefix + flags + "\n";
      if (plan.session && !plan.session->sql.empty()) out += "  of: " + plan.session->sql + "\n";
      if (plan.inner == nullptr) return out + "  execute " + plan.session->name + "\n";
      return out + "  " + describe_plan(*plan.inner);
  }
  if (!plan.rewritten_sql.empty()) out += "  sql: " + plan.rewritten_sql + "\n";
  describe_shape(plan, out);
  if (!plan.cacheable) out += "  not cached\n";
  if (!plan.structural_literals.empty()) {
    out += "  cached for";
    for (const Plan::StructuralLiteral& literal : plan.structural_literals)
      out += " #" + std::to_string(literal.index) + "=" + literal.text;
    out += "\n";
  }
  return out;
}

}  // namespace pgmosaic::plan
