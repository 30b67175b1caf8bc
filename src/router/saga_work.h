// What the router does with sagas beside their sessions: it runs the compensations of those whose owner is gone, as
// their owner, and forgets those that are finished.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "net/task.h"
#include "pool/server_conn.h"
#include "router/sagas.h"

namespace pgmosaic::router {

struct RouterContext;
class Worker;

// A question of the internal role's; to the home on a pooled connection.
net::Task<Result<pool::ServerConn::Rows>> ask_as_router(Worker& worker, uint32_t group, std::string database,
                                                        std::string sql,
                                                        std::vector<std::optional<std::string>> values);

// What the home keeps for the router to log in with as a saga's owner.
std::string sealed_login(const Worker& worker, const std::string& user, const std::string& saga);

// Ends the saga and releases it. Error: it is tried again later. REQUIRES: claimed.
net::Task<Status> end_saga(Worker& worker, SagaPtr saga);

// Without compensations; all of one database. REQUIRES: claimed.
net::Task<Status> forget_claimed(Worker& worker, std::vector<SagaPtr> sagas);

// Every second, on the main thread.
void tend_sagas(RouterContext& context, int64_t now_us);

}  // namespace pgmosaic::router
