// PostgreSQL's parse tree as libpg_query hands it out (protobuf-c structs of its PostgreSQL 15 grammar), with the few
// generic operations the planner needs. The operations go through protobuf's own descriptors, so that they reach every
// node kind, also those no rule knows: "does this expression contain X" never overlooks a place where X may hide.
//
// Nodes of a ParseTree are read-only. New nodes live in an Arena and may point into the tree they were made from, which
// must outlive them.
#pragma once

#include <pg_query/pg_query.pb-c.h>

#include <functional>
#include <memory_resource>
#include <string>
#include <string_view>
#include <vector>

namespace pgmosaic::sql {

using Node = PgQuery__Node;
using Message = ProtobufCMessage;

template <class T>
struct DescriptorOf;
#define PGM_AST_TYPE(type, lower)                                                               \
  template <>                                                                                   \
  struct DescriptorOf<PgQuery__##type> {                                                        \
    static const ProtobufCMessageDescriptor* get() { return &pg_query__##lower##__descriptor; } \
  };
#include "sql/ast_types.inc"
#undef PGM_AST_TYPE

// The message inside a Node; null for a null or empty node.
inline const Message* inner(const Node* node) {
  if (node == nullptr || node->node_case == PG_QUERY__NODE__NODE__NOT_SET) return nullptr;
  return reinterpret_cast<const Message*>(node->alias);  // every member of the union is a message pointer
}

// The message as a T, or null if it is something else.
template <class T>
const T* as(const Message* message) {
  if (message == nullptr || message->descriptor != DescriptorOf<T>::get()) return nullptr;
  return reinterpret_cast<const T*>(message);
}
template <class T>
const T* as(const Node* node) {
  return as<T>(inner(node));
}

// A range over a repeated field: for (const Node* n : each(stmt->n_cols, stmt->cols)).
template <class T>
struct Each {
  T** first;
  size_t count;
  T** begin() const { return first; }
  T** end() const { return first + count; }
};
template <class T>
Each<T> each(size_t count, T** items) {
  return {items, count};
}

// Depth-first over all messages below (and with) `root`, Node wrappers left out. `visit` returns whether to go deeper.
void walk(const Message* root, const std::function<bool(const Message*)>& visit);
inline void walk(const Node* root, const std::function<bool(const Message*)>& visit) { walk(inner(root), visit); }
// The messages directly below `root`.
void for_each_child(const Message* root, const std::function<void(const Message*)>& visit);

inline std::string_view text_of(const char* s) { return s == nullptr ? std::string_view() : std::string_view(s); }
// The value of a String node, "" for others.
std::string_view string_value(const Node* node);
// Values of a list of String nodes: a qualified name.
std::vector<std::string> names_of(size_t count, Node* const* nodes);
// The last part of a qualified name.
std::string_view last_name(size_t count, Node* const* nodes);
// Byte offset of the node in the statement, -1 where the tree has none.
int location_of(const Message* message);

// A text that is equal for two trees that mean the same apart from positions in the statement. `name_column` may give
// a column reference a canonical spelling (its binding); without it the reference's own spelling counts.
std::string fingerprint(const Message* root, const std::function<std::string(const PgQuery__ColumnRef*)>& name_column);

// Memory of made nodes.
class Arena {
 public:
  template <class T>
  T* make() {
    return reinterpret_cast<T*>(make_message(DescriptorOf<T>::get()));
  }
  Message* make_message(const ProtobufCMessageDescriptor* descriptor);
  template <class T>
  T** array(size_t count) {
    return static_cast<T**>(allocate(count * sizeof(T*)));
  }
  char* string(std::string_view text);

  template <class T>
  Node* node(T* message) {
    return wrap(reinterpret_cast<Message*>(message));
  }
  Node* wrap(Message* message);

  Node** list(const std::vector<Node*>& nodes);
  Node* string_node(std::string_view text);
  Node* column(const std::vector<std::string>& names);
  Node* integer(int32_t value);
  Node* string_constant(std::string_view value);
  Node* function(std::string_view name, const std::vector<Node*>& args);
  Node* cast(Node* argument, const std::vector<std::string>& type_name);
  Node* binary(std::string_view op, Node* left, Node* right);
  Node* target(Node* value, std::string_view name);

  // A deep copy in which `replace` may put another node (or the same: keep and go deeper when it returns null).
  Message* copy(const Message* root, const std::function<Node*(const Node*)>& replace);
  Node* copy(const Node* root, const std::function<Node*(const Node*)>& replace);
  // One level: a message whose fields may then be set; what it points to is shared.
  template <class T>
  T* shallow(const T* message) {
    return reinterpret_cast<T*>(shallow_copy(reinterpret_cast<const Message*>(message)));
  }

 private:
  void* allocate(size_t bytes);
  Message* shallow_copy(const Message* message);

  std::pmr::monotonic_buffer_resource memory_;
};

}  // namespace pgmosaic::sql
