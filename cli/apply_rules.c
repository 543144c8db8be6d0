/* Which options of `norma apply` go together. */
#include "apply.h"

#include <string.h>

static bool given(const apply_options *o, apply_option option) { return o->value[option] != NULL; }

/* `option` is useless or wrong without `other`. */
static int needs(const apply_options *o, apply_option option, apply_option other) {
  if (!given(o, option) || given(o, other)) return EXIT_GOOD;
  return cli_fail("%s needs %s", option_name(option), option_name(other));
}

static int excludes(const apply_options *o, apply_option option, apply_option other, const char *why) {
  if (!given(o, option) || !given(o, other)) return EXIT_GOOD;
  return cli_fail("%s and %s exclude each other: %s", option_name(option), option_name(other), why);
}

static int check_layer(const apply_options *o) {
  for (int i = 0; i < OPTION_COUNT; i++) {
    if (given(o, (apply_option)i) && !option_fits((apply_option)i, o->kind)) {
      return cli_fail("%s has no meaning for the layer '%s'; 'norma apply --help' lists the options",
                      option_name((apply_option)i), o->layer);
    }
  }
  if (o->kind == KIND_GROUP && !given(o, OPT_GROUPS)) return cli_fail("group norm needs --groups G");
  if (o->kind == KIND_ADAIN && !given(o, OPT_STYLE)) return cli_fail("adain needs --style FILE");
  if (o->kind == KIND_PATTERN && !given(o, OPT_AFFINE)) {
    const apply_option param[] = {OPT_WEIGHT, OPT_BIAS, OPT_DWEIGHT, OPT_DBIAS};
    for (int i = 0; i < 4; i++) {
      if (given(o, param[i])) {
        return cli_fail("%s needs --affine LIST, which names the axes of the pattern that gamma and beta change along",
                        option_name(param[i]));
      }
    }
  }
  return needs(o, OPT_PLUS_ONE, OPT_WEIGHT);
}

static int check_statistics(const apply_options *o) {
  static const char one_source[] = "statistics come from one place";
  bool rms = o->kind == KIND_RMS || given(o, OPT_RMS);
  int bad = needs(o, OPT_MEAN, OPT_VAR);
  if (bad == EXIT_GOOD && !rms) bad = needs(o, OPT_VAR, OPT_MEAN);
  const apply_option ours[] = {OPT_MEAN, OPT_VAR}, running[] = {OPT_RUNNING_MEAN, OPT_RUNNING_VAR, OPT_UPDATE};
  for (int i = 0; i < 6 && bad == EXIT_GOOD; i++) bad = excludes(o, ours[i / 3], running[i % 3], one_source);
  return bad;
}

static int check_running(const apply_options *o) {
  const apply_option mean = OPT_RUNNING_MEAN, var = OPT_RUNNING_VAR;
  const apply_option of_update[] = {OPT_SAVE_RUNNING_MEAN, OPT_SAVE_RUNNING_VAR, OPT_CONVENTION,
                                    OPT_MOMENTUM,          OPT_BATCHES,          OPT_NOT_FINITE};
  int bad = EXIT_GOOD;
  for (int i = 0; i < 6 && bad == EXIT_GOOD; i++) bad = needs(o, of_update[i], OPT_UPDATE);
  if (bad == EXIT_GOOD) bad = needs(o, OPT_SAVE_RUNNING_MEAN, mean);
  if (bad == EXIT_GOOD) bad = needs(o, OPT_SAVE_RUNNING_VAR, var);
  if (bad != EXIT_GOOD) return bad;
  if (!given(o, OPT_UPDATE)) {
    bad = needs(o, mean, var);
    return bad == EXIT_GOOD ? needs(o, var, mean) : bad;
  }
  if (!given(o, mean) && !given(o, var)) return cli_fail("--update needs --running-mean FILE or --running-var FILE");
  if (given(o, mean) && !given(o, OPT_SAVE_RUNNING_MEAN)) {
    return cli_fail("--running-mean with --update needs --save-running-mean FILE");
  }
  if (given(o, var) && !given(o, OPT_SAVE_RUNNING_VAR)) {
    return cli_fail("--running-var with --update needs --save-running-var FILE");
  }
  bool cumulative = given(o, OPT_CONVENTION) && strcmp(o->value[OPT_CONVENTION], "cumulative") == 0;
  if (cumulative && !given(o, OPT_BATCHES)) return cli_fail("--convention cumulative needs --batches B");
  if (cumulative && given(o, OPT_MOMENTUM)) return cli_fail("--convention cumulative has no --momentum");
  if (!cumulative && given(o, OPT_BATCHES)) return cli_fail("--batches needs --convention cumulative");
  return EXIT_GOOD;
}

static int check_files(const apply_options *o) {
  const apply_option gradients[] = {OPT_DX, OPT_DSTYLE, OPT_DWEIGHT, OPT_DBIAS};
  bool any_gradient = false, any_output = false;
  for (int i = 0; i < 4; i++) {
    int bad = needs(o, gradients[i], OPT_DY);
    if (bad != EXIT_GOOD) return bad;
    any_gradient = any_gradient || given(o, gradients[i]);
  }
  if (given(o, OPT_DY) && !any_gradient) {
    return cli_fail("--dy is given but no gradient is asked for: %s",
                    o->kind == KIND_ADAIN ? "--dx or --dstyle" : "--dx, --dweight or --dbias");
  }
  for (int i = OPT_OUTPUT; i < ARRAY_COUNT; i++) {
    const char *path = o->value[i];
    any_output = any_output || path != NULL;
    size_t length = path != NULL ? strlen(path) : 0;
    bool npy = length >= 4 && strcmp(path + length - 4, ".npy") == 0;
    if (path == NULL || npy || (i == OPT_OUTPUT && is_png_name(path))) continue;
    return cli_fail("%s %s: the name must end in .npy%s", option_name((apply_option)i), path,
                    i == OPT_OUTPUT ? " or .png" : "");
  }
  if (!any_output) return cli_fail("nothing to write: give -o OUTPUT, a --save-... or --dy with gradients");
  if (given(o, OPT_RANGE) && (!given(o, OPT_OUTPUT) || !is_png_name(o->value[OPT_OUTPUT]))) {
    return cli_fail("--range needs a PNG output: -o FILE.png");
  }
  double low, high;
  return given(o, OPT_RANGE) ? option_range(o, &low, &high) : EXIT_GOOD;
}

int options_check(const apply_options *options) {
  int bad = check_layer(options);
  if (bad == EXIT_GOOD) bad = check_statistics(options);
  if (bad == EXIT_GOOD) bad = check_running(options);
  return bad == EXIT_GOOD ? check_files(options) : bad;
}
