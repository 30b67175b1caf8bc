#include "sql/ast.h"

#include <cstring>
#include <map>

#include "base/check.h"

namespace pgmosaic::sql {
namespace {

// Calls visit(field, pointer to the member) for every set field of the message.
template <class F>
void for_each_field(const Message* message, F visit) {
  const auto* base = reinterpret_cast<const char*>(message);
  for (unsigned i = 0; i < message->descriptor->n_fields; ++i) {
    const ProtobufCFieldDescriptor& field = message->descriptor->fields[i];
    if (field.flags & PROTOBUF_C_FIELD_FLAG_ONEOF) {
      if (*reinterpret_cast<const uint32_t*>(base + field.quantifier_offset) != field.id) continue;
    }
    visit(field, base + field.offset, base + field.quantifier_offset);
  }
}

void child_messages(const Message* message, const std::function<void(const Message*)>& visit) {
  for_each_field(message, [&](const ProtobufCFieldDescriptor& field, const char* member, const char* quantifier) {
    if (field.type != PROTOBUF_C_TYPE_MESSAGE) return;
    if (field.label == PROTOBUF_C_LABEL_REPEATED) {
      size_t count = *reinterpret_cast<const size_t*>(quantifier);
      auto* items = *reinterpret_cast<Message* const* const*>(member);
      for (size_t i = 0; i < count; ++i)
        if (items[i] != nullptr) visit(items[i]);
    } else if (auto* child = *reinterpret_cast<const Message* const*>(member)) {
      visit(child);
    }
  });
}

bool is_node(const Message* message) { return message->descriptor == &pg_query__node__descriptor; }

const Message* unwrap(const Message* message) {
  return is_node(message) ? inner(reinterpret_cast<const Node*>(message)) : message;
}

bool is_position(const ProtobufCFieldDescriptor& field) {
  return std::strcmp(field.name, "location") == 0 || std::strcmp(field.name, "stmt_location") == 0 ||
         std::strcmp(field.name, "stmt_len") == 0;
}

void print(const Message* message, const std::function<std::string(const PgQuery__ColumnRef*)>& name_column,
           std::string& out) {
  message = unwrap(message);
  if (message == nullptr) return;
  if (auto* column = as<PgQuery__ColumnRef>(message); column != nullptr && name_column) {
    std::string name = name_column(column);
    if (!name.empty()) {
      out += name;
      return;
    }
  }
  out += message->descriptor->short_name;
  out += '{';
  for_each_field(message, [&](const ProtobufCFieldDescriptor& field, const char* member, const char* quantifier) {
    if (is_position(field)) return;
    out += std::to_string(field.id);
    out += ':';
    switch (field.type) {
      case PROTOBUF_C_TYPE_MESSAGE:
        if (field.label == PROTOBUF_C_LABEL_REPEATED) {
          size_t count = *reinterpret_cast<const size_t*>(quantifier);
          auto* items = *reinterpret_cast<Message* const* const*>(member);
          for (size_t i = 0; i < count; ++i) {
            print(items[i], name_column, out);
            out += ',';
          }
        } else if (auto* child = *reinterpret_cast<const Message* const*>(member)) {
          print(child, name_column, out);
        }
        break;
      case PROTOBUF_C_TYPE_STRING:
        if (field.label != PROTOBUF_C_LABEL_REPEATED) {
          out += '"';
          if (auto* s = *reinterpret_cast<const char* const*>(member)) out += s;
          out += '"';
        }
        break;
      case PROTOBUF_C_TYPE_BOOL: out += *reinterpret_cast<const protobuf_c_boolean*>(member) ? 't' : 'f'; break;
      case PROTOBUF_C_TYPE_INT64:
      case PROTOBUF_C_TYPE_UINT64:
        if (field.label != PROTOBUF_C_LABEL_REPEATED) out += std::to_string(*reinterpret_cast<const int64_t*>(member));
        break;
      default:
        if (field.label != PROTOBUF_C_LABEL_REPEATED) out += std::to_string(*reinterpret_cast<const int32_t*>(member));
        break;
    }
    out += ';';
  });
  out += '}';
}

}  // namespace

void for_each_child(const Message* root, const std::function<void(const Message*)>& visit) {
  child_messages(root, [&](const Message* child) {
    if (const Message* message = unwrap(child)) visit(message);
  });
}

void walk(const Message* root, const std::function<bool(const Message*)>& visit) {
  if (root == nullptr) return;
  root = unwrap(root);
  if (root == nullptr || !visit(root)) return;
  for_each_child(root, [&](const Message* child) { walk(child, visit); });
}

std::string_view string_value(const Node* node) {
  auto* string = as<PgQuery__String>(node);
  return string == nullptr ? std::string_view() : text_of(string->sval);
}

std::vector<std::string> names_of(size_t count, Node* const* nodes) {
  std::vector<std::string> names;
  for (size_t i = 0; i < count; ++i) names.emplace_back(string_value(nodes[i]));
  return names;
}

std::string_view last_name(size_t count, Node* const* nodes) {
  return count == 0 ? std::string_view() : string_value(nodes[count - 1]);
}

int location_of(const Message* message) {
  const ProtobufCFieldDescriptor* field =
      protobuf_c_message_descriptor_get_field_by_name(message->descriptor, "location");
  if (field == nullptr || field->type != PROTOBUF_C_TYPE_INT32) return -1;
  return *reinterpret_cast<const int32_t*>(reinterpret_cast<const char*>(message) + field->offset);
}

std::string fingerprint(const Message* root, const std::function<std::string(const PgQuery__ColumnRef*)>& name_column) {
  std::string out;
  if (root != nullptr) print(root, name_column, out);
  return out;
}

void* Arena::allocate(size_t bytes) {
  void* memory = memory_.allocate(bytes == 0 ? 1 : bytes, alignof(std::max_align_t));
  std::memset(memory, 0, bytes);
  return memory;
}

Message* Arena::make_message(const ProtobufCMessageDescriptor* descriptor) {
  auto* message = static_cast<Message*>(allocate(descriptor->sizeof_message));
  protobuf_c_message_init(descriptor, message);
  return message;
}

char* Arena::string(std::string_view text) {
  auto* copy = static_cast<char*>(allocate(text.size() + 1));
  std::memcpy(copy, text.data(), text.size());
  return copy;
}

Node* Arena::wrap(Message* message) {
  static const auto* cases = [] {
    auto* map = new std::map<const void*, uint32_t>;
    for (unsigned i = 0; i < pg_query__node__descriptor.n_fields; ++i)
      (*map)[pg_query__node__descriptor.fields[i].descriptor] = pg_query__node__descriptor.fields[i].id;
    return map;
  }();
  auto it = cases->find(message->descriptor);
  CHECK(it != cases->end());
  Node* node = reinterpret_cast<Node*>(make_message(&pg_query__node__descriptor));
  node->node_case = static_cast<PgQuery__Node__NodeCase>(it->second);
  node->alias = reinterpret_cast<PgQuery__Alias*>(message);
  return node;
}

Node** Arena::list(const std::vector<Node*>& nodes) {
  Node** items = array<Node>(nodes.size());
  for (size_t i = 0; i < nodes.size(); ++i) items[i] = nodes[i];
  return items;
}

Node* Arena::string_node(std::string_view text) {
  auto* s = make<PgQuery__String>();
  s->sval = string(text);
  return node(s);
}

Node* Arena::column(const std::vector<std::string>& names) {
  auto* ref = make<PgQuery__ColumnRef>();
  std::vector<Node*> fields;
  for (const std::string& name : names) fields.push_back(string_node(name));
  ref->n_fields = fields.size();
  ref->fields = list(fields);
  return node(ref);
}

Node* Arena::integer(int32_t value) {
  auto* constant = make<PgQuery__AConst>();
  constant->val_case = PG_QUERY__A__CONST__VAL_IVAL;
  constant->ival = make<PgQuery__Integer>();
  constant->ival->ival = value;
  return node(constant);
}

Node* Arena::string_constant(std::string_view value) {
  auto* constant = make<PgQuery__AConst>();
  constant->val_case = PG_QUERY__A__CONST__VAL_SVAL;
  constant->sval = make<PgQuery__String>();
  constant->sval->sval = string(value);
  return node(constant);
}

Node* Arena::function(std::string_view name, const std::vector<Node*>& args) {
  auto* call = make<PgQuery__FuncCall>();
  call->n_funcname = 1;
  call->funcname = list({string_node(name)});
  call->n_args = args.size();
  call->args = list(args);
  call->funcformat = PG_QUERY__COERCION_FORM__COERCE_EXPLICIT_CALL;
  return node(call);
}

Node* Arena::cast(Node* argument, const std::vector<std::string>& type_name) {
  auto* type = make<PgQuery__TypeName>();
  std::vector<Node*> names;
  for (const std::string& part : type_name) names.push_back(string_node(part));
  type->n_names = names.size();
  type->names = list(names);
  type->typemod = -1;
  auto* typecast = make<PgQuery__TypeCast>();
  typecast->arg = argument;
  typecast->type_name = type;
  return node(typecast);
}

Node* Arena::binary(std::string_view op, Node* left, Node* right) {
  auto* expr = make<PgQuery__AExpr>();
  expr->kind = PG_QUERY__A__EXPR__KIND__AEXPR_OP;
  expr->n_name = 1;
  expr->name = list({string_node(op)});
  expr->lexpr = left;
  expr->rexpr = right;
  return node(expr);
}

Node* Arena::target(Node* value, std::string_view name) {
  auto* target = make<PgQuery__ResTarget>();
  target->val = value;
  if (!name.empty()) target->name = string(name);
  return node(target);
}

Message* Arena::shallow_copy(const Message* message) {
  auto* result = static_cast<Message*>(allocate(message->descriptor->sizeof_message));
  std::memcpy(static_cast<void*>(result), message, message->descriptor->sizeof_message);
  return result;
}

Node* Arena::copy(const Node* root, const std::function<Node*(const Node*)>& replace) {
  if (root == nullptr) return nullptr;
  if (Node* other = replace(root)) return other;
  const Message* message = inner(root);
  if (message == nullptr) return const_cast<Node*>(root);
  return wrap(copy(message, replace));
}

Message* Arena::copy(const Message* root, const std::function<Node*(const Node*)>& replace) {
  if (root == nullptr) return nullptr;
  Message* result = shallow_copy(root);
  auto* base = reinterpret_cast<char*>(result);
  auto copy_child = [&](const Message* child) -> Message* {
    if (child == nullptr) return nullptr;
    if (is_node(child)) return reinterpret_cast<Message*>(copy(reinterpret_cast<const Node*>(child), replace));
    return copy(child, replace);
  };
  for_each_field(root, [&](const ProtobufCFieldDescriptor& field, const char* member, const char* quantifier) {
    if (field.type != PROTOBUF_C_TYPE_MESSAGE) return;
    if (field.label == PROTOBUF_C_LABEL_REPEATED) {
      size_t count = *reinterpret_cast<const size_t*>(quantifier);
      auto* items = *reinterpret_cast<Message* const* const*>(member);
      Message** copies = array<Message>(count);
      for (size_t i = 0; i < count; ++i) copies[i] = copy_child(items[i]);
      *reinterpret_cast<Message***>(base + field.offset) = copies;
    } else {
      *reinterpret_cast<Message**>(base + field.offset) = copy_child(*reinterpret_cast<Message* const*>(member));
    }
  });
  return result;
}

}  // namespace pgmosaic::sql
