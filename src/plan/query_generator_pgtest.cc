#include <random>
#include <vector>

#include "plan/query_generator.h"

namespace pgmosaic::plan {

class QueryGenerator::Impl {
 public:
  explicit Impl(uint32_t seed) : random_(seed) {}

  std::string statement() {
    aliases_.clear();
    int shape = below(12);
    if (shape == 0) return set_operation();
    std::string from = from_clause(1 + below(3), 0);
    std::vector<Alias> here = aliases_;
    std::string where = below(3) > 0 ? " WHERE " + condition(here, 2) : "";
    if (shape <= 4) return aggregate(here, from, where);
    std::string columns;
    int width = 1 + below(3);
    for (int i = 0; i < width; ++i) columns += (i > 0 ? ", " : "") + expression(here) + " AS x" + std::to_string(i);
    std::string order;
    for (int i = 1; i <= width; ++i) order += (i > 1 ? ", " : " ORDER BY ") + std::to_string(i) + direction();
    std::string distinct = below(5) == 0 ? "DISTINCT " : "";
    std::string window;
    if (below(8) == 0) {
      columns += ", count(*) OVER (PARTITION BY " + column(here) + ")";
      order += ", " + std::to_string(width + 1);
    }
    return "SELECT " + distinct + columns + " FROM " + from + where + order + limit();
  }

 private:
  struct Alias {
    std::string name;
    std::vector<std::string> ints, texts;  // columns
    std::string key;                       // "" for reference tables
  };

  int below(int n) { return std::uniform_int_distribution<int>(0, n - 1)(random_); }
  template <class T>
  const T& pick(const std::vector<T>& items) {
    return items[below(static_cast<int>(items.size()))];
  }
  std::string direction() {
    static const std::vector<std::string> kWays{"", "", " DESC", " NULLS FIRST", " DESC NULLS LAST"};
    return pick(kWays);
  }
  std::string limit() {
    std::string text;
    if (below(3) == 0) text += " LIMIT " + std::to_string(below(8));
    if (below(6) == 0) text += " OFFSET " + std::to_string(below(4));
    return text;
  }

  Alias table(std::string& sql) {
    static const std::vector<Alias> kTables{{"users", {"id", "age"}, {"name"}, "id"},
                                            {"orders", {"user_id", "order_id", "qty"}, {"note"}, "user_id"},
                                            {"items", {"user_id", "order_id", "n"}, {"sku"}, "user_id"},
                                            {"users", {"id", "age"}, {"name"}, "id"},
                                            {"orders", {"user_id", "order_id", "qty"}, {"note"}, "user_id"},
                                            {"countries", {"region_id"}, {"code", "name"}, ""},
                                            {"regions", {"id"}, {"name"}, ""},
                                            {"tags", {"weight"}, {"tag"}, "tag"}};
    Alias alias = pick(kTables);
    sql = alias.name;
    return alias;
  }

  std::string from_item(int depth) {
    std::string sql;
    Alias alias = table(sql);
    std::string name = "t" + std::to_string(++counter_);
    if (depth < 2 && below(4) == 0) {
      std::string where = below(2) == 0 ? " WHERE " + alias.ints[0] + " > " + std::to_string(below(6)) : "";
      std::string k = alias.key.empty() || alias.key == "tag" ? alias.ints[0] : alias.key;
      std::string other = pick(alias.ints), text = pick(alias.texts);
      switch (below(6)) {
        case 0:
          sql = "(SELECT " + k + " AS k, count(*) AS c, max(" + text + ") AS s FROM " + sql + where + " GROUP BY " + k +
                ")";
          break;
        case 1:
          sql = "(SELECT DISTINCT " + k + " AS k, " + other + " AS c, " + text + " AS s FROM " + sql + where + ")";
          break;
        case 2: sql = "(SELECT " + k + " AS k, " + other + " AS c, " + text + " AS s FROM " + sql + where + ")"; break;
        case 3:
          sql = "(SELECT " + other + " AS k, count(*) AS c, min(" + text + ") AS s FROM " + sql + where + " GROUP BY " +
                other + ")";
          break;
        case 4:
          sql = "(SELECT id AS k, age AS c, name AS s FROM users UNION ALL SELECT user_id, qty, note FROM orders)";
          break;
        default:
          sql = "(SELECT id AS k, age AS c, name AS s FROM users EXCEPT SELECT user_id, qty, note FROM orders)";
          break;
      }
      alias = Alias{"", {"k", "c"}, {"s"}, "k"};
    }
    alias.name = name;
    aliases_.push_back(alias);
    return sql + " " + name;
  }

  std::string from_clause(int count, int depth) {
    std::string sql = from_item(depth);
    for (int i = 1; i < count; ++i) {
      std::vector<Alias> left = aliases_;
      std::string item = from_item(depth);
      if (below(5) == 0) {
        sql += ", " + item;
        continue;
      }
      static const std::vector<std::string> kJoins{" JOIN ",      " JOIN ",       " LEFT JOIN ",
                                                   " LEFT JOIN ", " RIGHT JOIN ", " FULL JOIN "};
      sql += pick(kJoins) + item + " ON " + join_condition(left, aliases_.back());
    }
    return sql;
  }

  std::string join_condition(const std::vector<Alias>& left, const Alias& right) {
    const Alias& other = pick(left);
    std::string sql;
    if (below(4) > 0 && !right.key.empty() && !other.key.empty() && (right.key == "tag") == (other.key == "tag")) {
      sql = other.name + "." + other.key + " = " + right.name + "." + right.key;
    } else if (below(2) == 0) {
      sql = other.name + "." + pick(other.ints) + " = " + right.name + "." + pick(right.ints);
    } else {
      sql = other.name + "." + pick(other.texts) + " = " + right.name + "." + pick(right.texts);
    }
    if (below(4) == 0) sql += " AND " + comparison(below(2) == 0 ? other : right);
    if (below(8) == 0) sql += " AND " + condition({other, right}, 1);
    return sql;
  }

  std::string comparison(const Alias& alias) {
    bool use_key = !alias.key.empty() && alias.key != "tag" && below(2) == 0;
    std::string c = alias.name + "." + (use_key ? alias.key : pick(alias.ints));
    std::string n = std::to_string(below(8)), m = std::to_string(below(8));
    switch (below(6)) {
      case 0:
      case 1: return c + " = " + n;
      case 2: return c + " IN (" + n + ", " + m + ")";
      case 3: return c + " > " + n;
      case 4: return c + " IS NULL";
      default:
        return alias.name + "." + pick(alias.texts) + " = '" + std::string(1, static_cast<char>('a' + below(5))) + "'";
    }
  }

  std::string condition(const std::vector<Alias>& scope, int depth) {
    const Alias& a = pick(scope);
    switch (below(depth > 0 ? 10 : 4)) {
      case 0:
      case 1:
      case 2: return comparison(a);
      case 3: {
        const Alias& b = pick(scope);
        return !a.key.empty() && !b.key.empty() && (a.key == "tag") == (b.key == "tag")
                   ? a.name + "." + a.key + " = " + b.name + "." + b.key
                   : comparison(b);
      }
      case 4: return "(" + condition(scope, depth - 1) + " AND " + condition(scope, depth - 1) + ")";
      case 5: return "(" + condition(scope, depth - 1) + " OR " + condition(scope, depth - 1) + ")";
      case 6: return "NOT (" + condition(scope, depth - 1) + ")";
      case 7: {
        std::string sql;
        Alias inner_alias = table(sql);
        inner_alias.name = "s" + std::to_string(++counter_);
        bool tie = !a.key.empty() && !inner_alias.key.empty() && (a.key == "tag") == (inner_alias.key == "tag");
        std::string where = tie && below(4) > 0
                                ? inner_alias.name + "." + inner_alias.key + " = " + a.name + "." + a.key
                                : comparison(inner_alias);
        return std::string(below(2) == 0 ? "" : "NOT ") + "EXISTS (SELECT 1 FROM " + sql + " " + inner_alias.name +
               " WHERE " + where + ")";
      }
      case 8: {
        std::string sql;
        Alias inner_alias = table(sql);
        std::string outer = a.key.empty() || a.key == "tag" ? pick(a.ints) : a.key;
        std::string target =
            inner_alias.key.empty() || inner_alias.key == "tag" ? pick(inner_alias.ints) : inner_alias.key;
        return a.name + "." + outer + (below(3) == 0 ? " NOT" : "") + " IN (SELECT " + target + " FROM " + sql +
               (below(3) == 0 ? " GROUP BY " + target : "") + (below(6) == 0 ? " LIMIT 3" : "") + ")";
      }
      default: {
        std::string sql;
        Alias inner_alias = table(sql);
        inner_alias.name = "s" + std::to_string(++counter_);
        bool tie = !a.key.empty() && !inner_alias.key.empty() && (a.key == "tag") == (inner_alias.key == "tag");
        return "(SELECT count(*) FROM " + sql + " " + inner_alias.name +
               (tie ? " WHERE " + inner_alias.name + "." + inner_alias.key + " = " + a.name + "." + a.key : "") +
               ") > " + std::to_string(below(4));
      }
    }
  }

  std::string column(const std::vector<Alias>& scope) {
    const Alias& a = pick(scope);
    if (!a.key.empty() && below(3) == 0) return a.name + "." + a.key;
    return a.name + "." + (below(2) == 0 ? pick(a.ints) : pick(a.texts));
  }
  std::string integer(const std::vector<Alias>& scope) {
    const Alias& a = pick(scope);
    return a.name + "." + pick(a.ints);
  }
  std::string expression(const std::vector<Alias>& scope) {
    switch (below(6)) {
      case 0: return integer(scope) + " + 1";
      case 1: return "coalesce(" + integer(scope) + ", 0)";
      default: return column(scope);
    }
  }

  std::string aggregate(const std::vector<Alias>& scope, const std::string& from, const std::string& where) {
    static const std::vector<std::string> kNames{"sum", "avg", "min", "max", "count", "count"};
    std::string columns, group;
    int groups = below(3);
    for (int i = 0; i < groups; ++i) {
      columns += expression(scope) + " AS g" + std::to_string(i) + ", ";
      group += (i > 0 ? ", " : " GROUP BY ") + std::to_string(i + 1);
    }
    int aggregates = 1 + below(2);
    bool distinct = below(5) == 0;
    std::string argument = integer(scope);
    for (int i = 0; i < aggregates; ++i) {
      if (i > 0) columns += ", ";
      if (!distinct) argument = below(5) == 0 ? integer(scope) + " * 2" : integer(scope);
      bool star = below(6) == 0 && !distinct;
      std::string call = star ? "count(*)" : pick(kNames) + "(" + (distinct ? "DISTINCT " : "") + argument + ")";
      if (below(6) == 0 && !distinct) call += " FILTER (WHERE " + comparison(pick(scope)) + ")";
      columns += call + (below(6) == 0 ? " + 1" : "");
    }
    std::string order;
    for (int i = 1; i <= groups + aggregates; ++i)
      order += (i > 1 ? ", " : " ORDER BY ") + std::to_string(i) + direction();
    std::string having = below(4) == 0 ? " HAVING count(*) > " + std::to_string(below(4)) : "";
    return "SELECT " + columns + " FROM " + from + where + group + having + order + limit();
  }

  std::string set_operation() {
    static const std::vector<std::string> kOps{" UNION ALL ", " UNION ", " EXCEPT ", " INTERSECT "};
    auto arm = [&] {
      std::string sql;
      Alias alias = table(sql);
      std::string k = alias.key.empty() || alias.key == "tag" ? pick(alias.ints)
                      : below(3) > 0                          ? alias.key
                                                              : pick(alias.ints);
      alias.name = sql;
      return "SELECT " + k + "::int8 AS x, " + pick(alias.texts) + " AS y FROM " + sql +
             (below(2) == 0 ? " WHERE " + comparison(alias) : "");
    };
    auto plain = [&] {
      std::string sql;
      Alias alias = table(sql);
      while (alias.key.empty() || alias.key == "tag") alias = table(sql);
      alias.name = sql;
      return "SELECT " + alias.key + " AS x, " + pick(alias.texts) + " AS y FROM " + sql +
             (below(2) == 0 ? " WHERE " + comparison(alias) : "");
    };
    std::string sql = below(2) == 0 ? arm() : plain();
    int more = 1 + below(2);
    for (int i = 0; i < more; ++i) sql += pick(kOps) + (below(2) == 0 ? arm() : plain());
    return sql + " ORDER BY 1, 2" + limit();
  }

  std::mt19937 random_;
  std::vector<Alias> aliases_;
  int counter_ = 0;
};

QueryGenerator::QueryGenerator(uint32_t seed) : impl_(std::make_unique<Impl>(seed)) {}
QueryGenerator::~QueryGenerator() = default;
std::string QueryGenerator::statement() { return impl_->statement(); }

}  // namespace pgmosaic::plan
