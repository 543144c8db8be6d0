/* The command line of norma-demo, and the table it prints. */
#include <getopt.h>
#include <string.h>

#include "lab.h"

static const char usage[] =
    "usage: norma-demo [--data DIR] [--out DIR]\n"
    "\n"
    "What does each normalization layer keep of real feature maps, and what does it erase?\n"
    "Takes one Fashion-MNIST picture of each class, each exposed differently, makes 8 feature maps of each by fixed\n"
    "filters, applies batch, layer, instance and group norm, measures, and writes a report that opens in a browser.\n"
    "\n"
    "  --data DIR  where t10k-images-idx3-ubyte.gz and t10k-labels-idx1-ubyte.gz are\n"
    "              (default: where Debian's package dataset-fashion-mnist puts them)\n"
    "  --out DIR   where to write index.html, pictures.png, channels.png and input.npy (default: report)\n"
    "  --help      this text\n"
    "\n"
    "Exit code 0: done; 1: a result is outside its bound or differs between runs; 2: wrong argument or file.\n";

static void print_spread(const lab_view views[VIEWS], lab_spread which) {
  printf("%-29s%10.3f", lab_spread_names[which], views[0].spread[which]);
  for (int i = 1; i < VIEWS; i++) {
    printf("%10.3f", views[i].spread[which]);
  }
  printf("\n%-29s%10s", "  left", "");
  for (int i = 1; i < VIEWS; i++) {
    printf("%8.0f %%", lab_left(views, i, which));
  }
  printf("\n");
}

static void print_table(const lab_view views[VIEWS]) {
  printf("A batch of feature maps: %d pictures x %d channels x %d x %d.\n\n%-29s", SAMPLES, CHANNELS, SIDE, SIDE, "");
  for (int i = 0; i < VIEWS; i++) {
    printf("%10s", views[i].name);
  }
  printf("\n%-29s%10s", "means", "");
  for (int i = 1; i < VIEWS; i++) {
    printf("%10lld", (long long)norma_layer_units(&views[i].layer));
  }
  printf("\n");
  for (int which = 0; which < SPREADS; which++) {
    print_spread(views, (lab_spread)which);
  }
  printf("%-29s%10s", "largest error of y", "");
  for (int i = 1; i < VIEWS; i++) {
    printf("%10.1e", views[i].error);
  }
  printf("\n%-29s%10s", "  of what norma.h allows", "");
  for (int i = 1; i < VIEWS; i++) {
    printf("%8.0f %%", 100 * views[i].error_share);
  }
  printf("\nsame bits on 1 and %d threads  %9s", THREADS, "");
  for (int i = 1; i < VIEWS; i++) {
    printf("%10s", views[i].same_threads ? "yes" : "NO");
  }
  printf("\n%-29s%10s", "same bits in NCHW and NHWC", "");
  for (int i = 1; i < VIEWS; i++) {
    printf("%10s", views[i].same_layout ? "yes" : "NO");
  }
  printf("\n");
}

static int run(const char *data, const char *out) {
  static lab_pictures pictures;
  static lab_view views[VIEWS];
  int failed = lab_read_pictures(data, &pictures);
  if (!failed) {
    lab_make_maps(&pictures, views[0].maps);
    failed = lab_measure(views);
  }
  if (failed || (failed = lab_make_folder(out)) || (failed = lab_write_npy(out, "input.npy", views[0].maps)) ||
      (failed = lab_write_picture_sheet(out, views)) || (failed = lab_write_channel_sheet(out, views)) ||
      (failed = lab_write_page(out, &pictures, views))) {
    return failed;
  }
  print_table(views);
  printf("\ncontact sheets: %s/pictures.png, %s/channels.png\nopen %s/index.html\n", out, out, out);
  return lab_all_right(views) ? EXIT_GOOD : EXIT_FAILED;
}

static int read_arguments(int argc, char **argv) {
  static const struct option options[] = {
      {"data", required_argument, NULL, 'd'},
      {"out", required_argument, NULL, 'o'},
      {"help", no_argument, NULL, 'h'},
      {0}};
  const char *data = NULL, *out = "report";
  int option;
  opterr = 0;
  while ((option = getopt_long(argc, argv, ":", options, NULL)) != -1) {
    switch (option) {
      case 'd': data = optarg; break;
      case 'o': out = optarg; break;
      case 'h': fputs(usage, stdout); return EXIT_GOOD;
      case ':': return lab_fail("%s needs the name of a folder", argv[optind - 1]);
      default: return lab_fail("unknown option %s; norma-demo --help lists them", argv[optind - 1]);
    }
  }
  if (optind < argc) {
    return lab_fail("unexpected argument %s; norma-demo --help lists the options", argv[optind]);
  }
  if (*out == '\0' || (data != NULL && *data == '\0')) {
    return lab_fail("%s needs the name of a folder, got an empty one", *out == '\0' ? "--out" : "--data");
  }
  return run(data, out);
}

int main(int argc, char **argv) {
  int code = read_arguments(argc, argv);
  if (code != EXIT_USAGE && (fflush(stdout) != 0 || ferror(stdout))) {
    return lab_fail("cannot write to standard output");
  }
  return code;
}
