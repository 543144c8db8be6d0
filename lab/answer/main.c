/* The command line of norma-report. */
#include "answer.h"
#include "page.h"

#include "../experiments/e0.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

static const char usage[] =
    "usage: norma-report [--out DIR] [--lang en|zh] [--exact] [--gate]\n"
    "       norma-report --markdown VERDICTS.json\n"
    "\n"
    "Judges the 47 statements of lab/claims.json by the runs in DIR/runs, and writes DIR/results.json,\n"
    "DIR/results.csv and the page DIR/index.html.\n"
    "\n"
    "  --out DIR        where the runs are and the results go (default: report)\n"
    "  --lang en|zh     the language of the page (default: en)\n"
    "  --exact          first run E0, the exact properties, with three seeds: a second\n"
    "  --gate           exit with 1 if a gate that was run is not confirmed, not only one of E0\n"
    "  --claims FILE    other statements and criteria than those of the program\n"
    "  --markdown FILE  print verdicts that were written earlier (results.json) as docs/results.md is\n"
    "  --help           this text\n"
    "\n"
    "Exit code 0: done; 1: a gate was not confirmed; 2: wrong argument or file.\n";

typedef struct options {
  const char *out, *claims, *markdown;
  answer_language language;
  bool exact, gate, help;
} options;

static int read_options(int argc, char **argv, options *o) {
  static const struct option known[] = {
      {"out", required_argument, NULL, 'o'},    {"lang", required_argument, NULL, 'l'},
      {"claims", required_argument, NULL, 'c'}, {"markdown", required_argument, NULL, 'm'},
      {"exact", no_argument, NULL, 'e'},        {"gate", no_argument, NULL, 'g'},
      {"help", no_argument, NULL, 'h'},         {0}};
  int option;
  *o = (options){.out = "report"};
  opterr = 0;
  while ((option = getopt_long(argc, argv, ":", known, NULL)) != -1) {
    switch (option) {
      case 'o': o->out = optarg; break;
      case 'c': o->claims = optarg; break;
      case 'm': o->markdown = optarg; break;
      case 'e': o->exact = true; break;
      case 'g': o->gate = true; break;
      case 'h': o->help = true; break;
      case 'l':
        o->language = strcmp(optarg, "zh") == 0 ? ANSWER_ZH : ANSWER_EN;
        if (strcmp(optarg, "en") == 0 || strcmp(optarg, "zh") == 0) break;
        return answer_fail("--lang: the language \"%s\" is not known; en or zh would be right", optarg);
      case ':': return answer_fail("%s needs a value; norma-report --help says which", argv[optind - 1]);
      default: return answer_fail("unknown option %s; norma-report --help lists them", argv[optind - 1]);
    }
  }
  if (optind < argc) return answer_fail("unexpected argument %s; norma-report --help lists the options", argv[optind]);
  if (*o->out == '\0') return answer_fail("--out needs the name of a folder, got an empty one");
  return ANSWER_GOOD;
}

static int make_folder(const char *folder) {
  struct stat status;
  if (mkdir(folder, 0777) == 0) return ANSWER_GOOD;
  if (errno != EEXIST) return answer_fail("--out: cannot make the folder %s: %s", folder, strerror(errno));
  if (stat(folder, &status) == 0 && S_ISDIR(status.st_mode)) return ANSWER_GOOD;
  return answer_fail("--out: %s is a file, expected a folder or a new name", folder);
}

static int write_results(const char *folder, const answer_results *results) {
  cJSON *json = answer_results_json(results);
  char *printed = cJSON_Print(json);
  int failed =
      printed != NULL ? answer_save(folder, "results.json", printed, strlen(printed)) : answer_fail("no memory");
  cJSON_free(printed);
  cJSON_Delete(json);
  return failed ? failed : answer_write_csv(folder, results);
}

static void print_summary(const answer_results *results, const char *folder) {
  int count[ANSWER_VERDICTS] = {0};
  for (int i = 0; i < results->claim_count; i++) count[results->claims[i].verdict]++;
  for (int i = 0; i < ANSWER_VERDICTS; i++) {
    if (count[i] == 0) continue;
    printf("%-15s %2d:", answer_verdict_name((answer_verdict)i), count[i]);
    for (int k = 0; k < results->claim_count; k++) {
      if (results->claims[k].verdict == (answer_verdict)i) printf(" %d", results->claims[k].id);
    }
    printf("\n");
  }
  printf("%d statements, %d runs\nopen %s/index.html\n", results->claim_count, results->runs, folder);
}

static int check_gates(const answer_results *results, bool all) {
  const answer_outcome *o = answer_failed_gate(results, !all);
  if (o == NULL) return ANSWER_GOOD;
  fprintf(stderr, "norma-report: gate %s is %s: mean %.4g, n %d: %s\n", o->test->string,
          answer_verdict_name(o->verdict), o->mean, o->n, answer_string(o->test, "en"));
  return ANSWER_GATE_FAILED;
}

static int report(const options *o, const cJSON *data) {
  answer_runs runs;
  answer_results results;
  int failed = make_folder(o->out);
  if (!failed && o->exact) failed = e0_run(o->out, 3);
  if (failed || (failed = answer_read_runs(o->out, &runs))) return failed;
  answer_judge(data, &runs, &results);
  failed = write_results(o->out, &results);
  if (!failed) failed = page_write(o->out, data, &runs, &results, o->language);
  if (!failed) {
    print_summary(&results, o->out);
    failed = check_gates(&results, o->gate);
  }
  answer_free_results(&results);
  answer_free_runs(&runs);
  return failed;
}

static int markdown(const char *path, const cJSON *data) {
  answer_results results;
  cJSON *json = answer_read_json(path);
  if (json == NULL) return ANSWER_USAGE;
  bool good = answer_results_from_json(data, json, &results);
  cJSON_Delete(json);
  if (!good) return answer_fail("%s: is not a results.json of norma-report", path);
  page_print_markdown(&results);
  answer_free_results(&results);
  return ANSWER_GOOD;
}

int main(int argc, char **argv) {
  options o;
  cJSON *own = NULL;
  int code = read_options(argc, argv, &o);
  if (code) return code;
  if (o.help) return fputs(usage, stdout), ANSWER_GOOD;
  if (o.claims != NULL && (own = answer_read_json(o.claims)) == NULL) return ANSWER_USAGE;
  const cJSON *data = own != NULL ? own : answer_claims_data();
  code = o.markdown != NULL ? markdown(o.markdown, data) : report(&o, data);
  cJSON_Delete(own);
  if (code != ANSWER_USAGE && (fflush(stdout) != 0 || ferror(stdout))) {
    return answer_fail("cannot write to standard output");
  }
  return code;
}
