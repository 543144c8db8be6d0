/* The command line of norma-lab, which the command starts as `norma lab`. */
#include <errno.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../engine/engine.h"
#include "runner.h"

static const char usage[] =
    "usage: norma lab [EXPERIMENT...] [--full] [--seeds N] [--data DIR] [--out DIR]\n"
    "\n"
    "Trains small networks with every normalization layer, each experiment a claim put to the test, and writes\n"
    "DIR/runs/EXPERIMENT/ARM.seedN.json. Without names: all experiments of the mode.\n"
    "\n"
    "  --full       full settings: an hour and a half on 2 cores; without it about a minute\n"
    "  --seeds N    seeds 1 to N instead of the experiment's own number\n"
    "  --arm NAME   only this arm\n"
    "  --data DIR   data sets of your own, before those of Debian's packages\n"
    "  --out DIR    where results go (default: report); finished runs there are kept, so a broken run goes on\n"
    "  --fresh      run also what is finished\n"
    "  --jobs N     runs at the same time, one thread each (default: the number of CPUs)\n"
    "  --no-report  only run; otherwise norma-report then judges the runs and writes DIR/index.html\n"
    "  --gate       fail also if a gate of an experiment that trains is not confirmed\n"
    "  --lang LANG  language of the report, en or zh\n"
    "  --list       the experiments and their arms\n"
    "  --help       this text\n"
    "\n"
    "Exit code 0: done; 1: a run or a gate failed; 2: wrong argument or file; 130: stopped by Ctrl-C.\n";

int lab_fail(const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  engine_complain(format, arguments);
  va_end(arguments);
  return EXIT_USAGE;
}

static int positive(const char *name, const char *text, int most, int *value) {
  char *end;
  long number = strtol(text, &end, 10);
  if (*text == '\0' || *end != '\0' || number < 1 || number > most) {
    return lab_fail("%s: expected a number from 1 to %d, got '%s'", name, most, text);
  }
  *value = (int)number;
  return EXIT_GOOD;
}

enum { OPTION_CHILD = 1, OPTION_SEED, OPTION_MODE, OPTION_RATE };

static const struct option known[] = {{"full", no_argument, NULL, 'f'},
                                      {"fresh", no_argument, NULL, 'n'},
                                      {"list", no_argument, NULL, 'l'},
                                      {"help", no_argument, NULL, 'h'},
                                      {"no-report", no_argument, NULL, 'r'},
                                      {"gate", no_argument, NULL, 't'},
                                      {"lang", required_argument, NULL, 'g'},
                                      {"seeds", required_argument, NULL, 's'},
                                      {"jobs", required_argument, NULL, 'j'},
                                      {"arm", required_argument, NULL, 'a'},
                                      {"data", required_argument, NULL, 'd'},
                                      {"out", required_argument, NULL, 'o'},
                                      {"child", required_argument, NULL, OPTION_CHILD},
                                      {"seed", required_argument, NULL, OPTION_SEED},
                                      {"mode", required_argument, NULL, OPTION_MODE},
                                      {"rate", required_argument, NULL, OPTION_RATE},
                                      {0}};

static int read_option(int option, options *o) {
  switch (option) {
    case 'f': o->full = true; break;
    case 'n': o->fresh = true; break;
    case 'l': o->list = true; break;
    case 'h': o->help = true; break;
    case 'r': o->no_report = true; break;
    case 't': o->gate = true; break;
    case 'g':
      o->lang = optarg;
      if (strcmp(optarg, "en") != 0 && strcmp(optarg, "zh") != 0) {
        return lab_fail("--lang: expected en or zh, got '%s'", optarg);
      }
      break;
    case 's': return positive("--seeds", optarg, 100, &o->seeds);
    case 'j': return positive("--jobs", optarg, 64, &o->jobs);
    case 'a': o->arm = optarg; break;
    case 'd': o->data = optarg; break;
    case 'o': o->out = optarg; break;
    case OPTION_CHILD: o->child = optarg; break;
    case OPTION_SEED: return positive("--seed", optarg, 1000000, &o->seed);
    case OPTION_MODE: o->mode = optarg; break;
    case OPTION_RATE: o->rate = strtod(optarg, NULL); break;
  }
  return EXIT_GOOD;
}

static int read_options(int argc, char **argv, options *o) {
  int option, failed = EXIT_GOOD;
  opterr = 0;
  while (!failed && (option = getopt_long(argc, argv, ":", known, NULL)) != -1) {
    if (option == ':') {
      return lab_fail("%s needs a value; norma lab --help says which", argv[optind - 1]);
    }
    if (option == '?') {
      return lab_fail("unknown option %s; norma lab --help lists them", argv[optind - 1]);
    }
    failed = read_option(option, o);
  }
  if (!failed && (*o->out == '\0' || strlen(o->out) > PATH_SIZE - 256)) {
    return lab_fail("--out needs the name of a folder of at most %d bytes", PATH_SIZE - 256);
  }
  if (!failed && o->data != NULL && access(o->data, R_OK | X_OK) != 0) {
    return lab_fail("--data: %s: %s", o->data, strerror(errno));
  }
  o->chosen = argv + optind;
  o->chosen_count = argc - optind;
  return failed;
}

static void print_list(void) {
  for (int i = 0; experiments[i] != NULL; i++) {
    const experiment *e = experiments[i];
    arm arms[EXPERIMENT_ARMS];
    int count = e->arms(arms);
    const char *missing = e->missing(NULL);
    printf("%-4s %s%s\n    ", e->id, e->title, missing != NULL ? " (data missing)" : "");
    for (int a = 0, column = 4; a < count; a++) {
      int width = (int)strlen(arms[a].name) + 2;
      if (column + width > 100) {
        printf("\n    ");
        column = 4;
      }
      column += width;
      printf(" %s%s", arms[a].name, arms[a].quick && e->quick_seeds > 0 ? "*" : "");
    }
    printf("\n     seeds: %d quick, %d full\n", e->quick_seeds, e->full_seeds);
    if (missing != NULL) {
      printf("     %s\n", missing);
    }
  }
  printf("* in quick mode\n");
}

/* norma-report stands beside this program. */
static int report(const options *o) {
  char path[PATH_SIZE];
  ssize_t length = readlink("/proc/self/exe", path, sizeof path - 32);
  if (length < 0) {
    return EXIT_GOOD;
  }
  path[length] = '\0';
  strcpy(strrchr(path, '/') + 1, "norma-report");
  if (access(path, X_OK) != 0) {
    printf("the runs are in %s/runs\n", o->out);
    return EXIT_GOOD;
  }
  fflush(stdout);
  int status = 0;
  pid_t process = fork();
  if (process == 0) {
    execl(path, "norma-report", "--exact", "--out", o->out, "--lang", o->lang, o->gate ? "--gate" : (char *)NULL,
          (char *)NULL);
    _exit(127);
  }
  if (process < 0 || waitpid(process, &status, 0) < 0 || !WIFEXITED(status) || WEXITSTATUS(status) == 127) {
    return lab_fail("cannot run %s: %s", path, strerror(errno));
  }
  return WEXITSTATUS(status);
}

static int run_all(const options *o) {
  static plan p;
  int failed = plan_make(o, &p);
  if (failed) {
    return failed;
  }
  if (p.kept > 0) {
    printf("%d finished runs in %s/runs are kept; --fresh runs them again\n", p.kept, o->out);
  }
  char folder[PATH_SIZE];
  snprintf(folder, sizeof folder, "%s/runs/", o->out);
  if (!make_folders(folder)) {
    return EXIT_USAGE;
  }
  if (p.count > 0) {
    printf("%d runs, %d at a time; seed N of one arm has the data order and the first weights of seed N of another\n",
           p.count, o->jobs);
    failed = jobs_run(o, &p);
  }
  if (failed == EXIT_STOPPED || o->no_report) {
    return failed;
  }
  int report_failed = report(o);
  return failed ? failed : report_failed;
}

int main(int argc, char **argv) {
  long processors = sysconf(_SC_NPROCESSORS_ONLN);
  options o = {.out = "report", .lang = "en", .jobs = processors > 0 && processors < 64 ? (int)processors : 2};
  int code = read_options(argc, argv, &o);
  if (code) {
    return code;
  }
  if (o.help) {
    fputs(usage, stdout);
  } else if (o.list) {
    print_list();
  } else {
    code = o.child != NULL ? child_run(&o) : run_all(&o);
  }
  if ((fflush(stdout) != 0 || ferror(stdout)) && code != EXIT_USAGE) {
    return lab_fail("cannot write to standard output");
  }
  return code;
}
