/* The programs of tests/mpi. */
#ifndef NORMA_TESTS_MPI_RANKS_H
#define NORMA_TESTS_MPI_RANKS_H

#include <stddef.h>

#include "norma_mpi.h"

/* Prints what is wrong and ends all ranks with exit status 1. */
_Noreturn void die(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* malloc that does not fail. */
void *room(size_t bytes);

/* faults.c: one kind of trouble; what each rank is told goes into FOLDER/RANK.txt. */
void run_fault(const char *kind, double timeout, const char *folder);

#endif
