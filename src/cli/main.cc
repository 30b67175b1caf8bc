#include "cli/commands.h"

int main(int argc, char** argv) { return pgmosaic::cli::run(argc, argv); }
