/* Text for the language model: characters as numbers, windows of three uses, batches, and files that are no text. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>
#include <zlib.h>

#include "../../lab/experiments/language.h"

enum { MOST = 1 << 20 };

static char folder[] = "/tmp/norma-language-XXXXXX", path[64];

static void write_file(const char *bytes, size_t count, bool packed) {
  gzFile stream = gzopen(path, packed ? "wb" : "wbT"); /* T: as it is */
  assert_non_null(stream);
  assert_int_equal(gzwrite(stream, bytes, (unsigned)count), (int)count);
  assert_int_equal(gzclose(stream), Z_OK);
}

static text_file read_text(const char *bytes, bool packed) {
  text_file text;
  char error[TEXT_ERROR] = "";
  write_file(bytes, strlen(bytes), packed);
  if (!text_read(path, MOST, &text, error)) {
    fail_msg("%s", error);
  }
  return text;
}

/* The most frequent character is 0; e acute is one character, a byte that is no UTF-8 is one too. */
static void test_characters(void **state) {
  (void)state;
  static const uint8_t expected[] = {2, 0, 1, 0, 1, 0, 3};
  for (int packed = 0; packed < 2; packed++) {
    text_file text = read_text("b\xc3\xa9" "a\xc3\xa9" "a\xc3\xa9" "\xff", packed);
    assert_int_equal(text.kinds, 4);
    assert_int_equal(text.count, 7);
    assert_memory_equal(text.at, expected, sizeof expected);
    free(text.at);
  }
}

/* 300 different characters: the rarest share the last number. */
static void test_many_characters(void **state) {
  (void)state;
  char bytes[2000] = "";
  size_t length = 0;
  for (int i = 0; i < 300; i++) {
    int code = 0x4e00 + i;
    for (int times = i < 200 ? 2 : 1; times > 0; times--) {
      bytes[length++] = (char)(0xe0 | code >> 12);
      bytes[length++] = (char)(0x80 | (code >> 6 & 0x3f));
      bytes[length++] = (char)(0x80 | (code & 0x3f));
    }
  }
  text_file text = read_text(bytes, false);
  assert_int_equal(text.kinds, TEXT_KINDS);
  assert_int_equal(text.count, 500);
  assert_int_equal(text.at[2], 1);
  assert_int_equal(text.at[400 + 54], 254);
  for (int i = 400 + 55; i < 500; i++) {
    assert_int_equal(text.at[i], 255);
  }
  free(text.at);
}

static void test_what_is_no_text(void **state) {
  (void)state;
  text_file text;
  char error[TEXT_ERROR];
  assert_false(text_read("/not/there", MOST, &text, error));
  assert_non_null(strstr(error, "cannot be read"));
  write_file("", 0, false);
  assert_false(text_read(path, MOST, &text, error));
  assert_non_null(strstr(error, "empty"));
  write_file("much the same, much the same, much the same", 43, true);
  assert_int_equal(truncate(path, 30), 0);
  assert_false(text_read(path, MOST, &text, error));
  assert_non_null(strstr(error, "damaged"));
  assert_null(text.at);
}

static void test_a_folder_of_ones_own_comes_first(void **state) {
  (void)state;
  char found[4096];
  write_file("x", 1, false);
  assert_string_equal(text_find(folder, found), path);
  assert_null(language_missing(folder));
  const char *other = text_find("/not/there", found);
  assert_true(other == NULL || strcmp(other, text_standard_path) == 0);
}

enum { LENGTH = 64, CHARACTERS = 300000, WINDOWS = 3000 };

/* Which use each character has, by the windows of all three: no character has two, and the random ones agree. */
static void test_uses_do_not_meet(void **state) {
  (void)state;
  text_file text = {.count = CHARACTERS, .kinds = 2, .at = calloc(CHARACTERS, 1)};
  uint8_t *use_at = calloc(CHARACTERS, 1);
  static int64_t places[WINDOWS];
  int counts[3];
  for (int u = FOR_TRAINING; u <= FOR_VALIDATION; u++) {
    counts[u] = language_windows(&text, (use)u, LENGTH, WINDOWS, places);
    for (int i = 0; i < counts[u]; i++) {
      for (int j = 0; j < LENGTH; j++) { /* the character after a window may begin the next one */
        assert_int_equal(use_at[places[i] + j], 0);
        use_at[places[i] + j] = (uint8_t)(u + 1);
      }
    }
  }
  assert_true(counts[FOR_TRIALS] > 300 && counts[FOR_VALIDATION] > 300);
  assert_true(counts[FOR_TRAINING] > 6 * counts[FOR_VALIDATION]);
  rng r = rng_new(5, 5);
  for (int i = 0; i < 20000; i++) {
    int64_t at = language_random(&text, FOR_TRAINING, LENGTH, &r);
    for (int j = 0; j <= LENGTH; j++) {
      assert_true(at + j < CHARACTERS && (use_at[at + j] == 0 || use_at[at + j] == FOR_TRAINING + 1));
    }
  }
  free(text.at);
  free(use_at);
}

/* Fewer windows than there are: a sample of all of the text, not its beginning. */
static void test_a_sample_of_windows(void **state) {
  (void)state;
  text_file text = {.count = CHARACTERS, .kinds = 2};
  int64_t places[50], last = 0;
  assert_int_equal(language_windows(&text, FOR_TRAINING, LENGTH, 50, places), 50);
  for (int i = 0; i < 50; i++) {
    last = places[i] > last ? places[i] : last;
    for (int j = 0; j < i; j++) {
      assert_true(places[i] != places[j]);
    }
  }
  assert_true(last > CHARACTERS / 2);
}

static void test_labels_are_what_follows(void **state) {
  (void)state;
  uint8_t at[200];
  real x[2 * 3];
  int32_t labels[2 * 3];
  for (int i = 0; i < 200; i++) {
    at[i] = (uint8_t)i;
  }
  text_file text = {.count = 200, .at = at, .kinds = 200};
  tensor t = language_batch(&text, (int64_t[]){7, 100}, 2, 3, x, labels);
  assert_true(t.ndim == 2 && t.dim[0] == 2 && t.dim[1] == 3);
  for (int i = 0; i < 6; i++) {
    assert_true(x[i] == (real)((i < 3 ? 7 : 97) + i));
    assert_int_equal(labels[i], (i < 3 ? 8 : 98) + i);
  }
}

static int make_folder(void **state) {
  (void)state;
  if (mkdtemp(folder) == NULL) {
    return 1;
  }
  snprintf(path, sizeof path, "%s/text.txt", folder);
  return 0;
}

static int remove_folder(void **state) {
  (void)state;
  remove(path);
  return rmdir(folder);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_characters),         cmocka_unit_test(test_many_characters),
      cmocka_unit_test(test_what_is_no_text),    cmocka_unit_test(test_a_folder_of_ones_own_comes_first),
      cmocka_unit_test(test_uses_do_not_meet),   cmocka_unit_test(test_a_sample_of_windows),
      cmocka_unit_test(test_labels_are_what_follows)};
  return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
