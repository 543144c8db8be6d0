/* The page DIR/index.html and the text docs/results.md. */
#ifndef NORMA_LAB_PAGE_H
#define NORMA_LAB_PAGE_H

#include "answer.h"
#include "text.h"

/* What the parts of a page share. */
typedef struct page {
  text out;
  const char *folder;
  const cJSON *data; /* of the form of claims.json */
  const answer_runs *runs;
  const answer_results *results;
  answer_language language;
  const cJSON *drawn[64]; /* plots that are on the page already */
  int drawn_count, drawn_at[64]; /* and the claims under which they stand */
} page;

/* Writes FOLDER/index.html, one file that needs no other. */
int page_write(const char *folder, const cJSON *data, const answer_runs *runs, const answer_results *results,
               answer_language language);
/* Prints the results as docs/results.md has them. */
void page_print_markdown(const answer_results *results);

/* ---------------------------------------------------------------------------------------------- for its parts --- */

/* The words of the page itself, in its language. */
const char *page_say(const page *p, const char *english, const char *chinese);
/* A verdict as a coloured word, or as a sign behind the number of its claim. */
void page_badge(page *p, answer_verdict verdict);
void page_reference(page *p, int claim);
void page_table(page *p);
void page_claims(page *p);
void page_experiments(page *p);
/* "12.3 ± 0.4 points, n = 3" */
void page_figure(text *out, const answer_outcome *o, answer_language language);
/* "at least 15", what the criterion wants */
void page_criterion(text *out, const answer_outcome *o, answer_language language);

#endif
