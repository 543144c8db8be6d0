/* Ranks of one process: threads that exchange bytes in memory, for the tests of norma_sync.h. */
#ifndef NORMA_TESTS_TEAM_H
#define NORMA_TESTS_TEAM_H

#include "norma_sync.h"

enum { TEAM_MOST = 8 };

typedef struct team team;

/* A rank that waits longer than `timeout` seconds for another gives up, and then all do. */
team *team_new(int ranks, double timeout);
void team_free(team *t);
norma_exchange team_exchange(team *t, int rank);
/* Exchanges that were complete, and the bytes that rank 0 received in the last one. */
int team_exchanges(const team *t);
size_t team_bytes(const team *t);
/* Runs body(context, rank) for all ranks at once. cmocka's assertions belong to the caller's thread: not into body. */
void team_run(int ranks, void (*body)(void *context, int rank), void *context);

#endif
