/* A line of code pasted as it is: nn.GroupNorm(32, 64, eps=1e-6) is the name and settings by their names. */
#include "explain.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

/* What an argument without a name means. */
static const char *positional(problem_kind kind, explain_origin origin, int index) {
  bool layer = kind == PROBLEM_LAYER || kind == PROBLEM_RMS;
  if (origin == FROM_KERAS) return index == 0 ? (kind == PROBLEM_GROUP ? "groups" : "axis") : NULL;
  if (origin == FROM_ONNX) return NULL;
  if (index == 0) return layer ? "normalized_shape" : kind == PROBLEM_GROUP ? "groups" : "num_features";
  if (index == 1) return kind == PROBLEM_GROUP ? "num_channels" : "eps";
  return kind == PROBLEM_GROUP && index == 2 ? "eps" : NULL;
}

/* The length of the argument at `text`: up to a comma or a parenthesis that is not inside brackets. */
static size_t argument_length(const char *text) {
  int depth = 0;
  size_t i = 0;
  for (; text[i]; i++) {
    if (depth == 0 && (text[i] == ',' || text[i] == ')')) break;
    depth += (text[i] == '(' || text[i] == '[') - (text[i] == ')' || text[i] == ']');
  }
  return i;
}

static void add_setting(explain_lines *settings, const char *name, const char *from, size_t length) {
  char text[EXPLAIN_LINE] = "";
  for (size_t i = 0; i < length; i++) {
    if (!isspace((unsigned char)from[i])) explain_append(text, "%c", from[i]);
  }
  if (strchr(text, '=')) explain_add(settings, "%s", text);
  else explain_add(settings, "%s=%s", name, text);
}

const explain_name *explain_read_call(const char *text, explain_lines *settings) {
  char head[64];
  const char *suggestion, *at = strchr(text, '(');
  settings->count = 0;
  if (!at) return NULL;
  snprintf(head, sizeof head, "%.*s", (int)(at - text), text);
  const explain_name *name = explain_find_name(head, &suggestion);
  for (int index = 0; name && *at && *at != ')'; index++) {
    at++;
    size_t length = argument_length(at);
    const char *meaning = positional(name->kind, name->origin, index);
    bool named = memchr(at, '=', length) != NULL;
    if (!named && !meaning && strspn(at, " ") < length) return NULL;
    if (strspn(at, " ") < length) add_setting(settings, meaning, at, length);
    at += length;
  }
  return name && strcmp(at, ")") == 0 ? name : NULL;
}
