/* What the picture says, in English and Chinese. Numbers and products come from the layers, not from here. */
#include "picture.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

const picture_words *picture_words_in(picture_language language) {
  static const picture_words en = {
      .title = {"Four normalization layers", "Six normalization layers"},
      .question = "Which elements share a mean and a variance?",
      .axis_names = {"batch", "channels", "space", "groups × channels"},
      .rows = {"pattern", "statistics", "one per", "elements each", "shape of γ", "used in"},
      .marked = "the element that is changed",
      .shared = "outputs that change with it: they share one mean and one variance",
      .others = "outputs that stay; lines separate their sets",
      .method =
          "Drawn from what the library does: each element is changed in turn, and the outputs are compared bit for "
          "bit.",
  };
  static const picture_words zh = {
      .title = {"四种归一化层", "六种归一化层"},
      .question = "哪些元素共用一个均值和方差？",
      .axis_names = {"批次", "通道", "空间", "组 × 每组通道"},
      .rows = {"写法", "统计量组数", "每组对应", "每组元素数", "γ 的形状", "用于"},
      .marked = "被改动的元素",
      .shared = "输出随之改变：共用一个均值和一个方差",
      .others = "输出不变；线条分隔其余各组",
      .method = "本图由程序运行得出：逐个改动元素，按位比较前后的输出。",
  };
  return language == PICTURE_ZH ? &zh : &en;
}

static const struct {
  const char *name[2], *used_in[2];
} LAYERS[PICTURE_MAX_LAYERS] = {
    [PICTURE_BATCH] = {{"Batch norm", "批归一化 BN"},
                       {"image classification\nby CNNs, large batches", "卷积网络图像分类，\n大批次训练"}},
    [PICTURE_LAYER] = {{"Layer norm", "层归一化 LN"},
                       {"Transformers, recurrent nets:\nthere as n t [d], each token\non its own",
                        "Transformer、循环网络：\n写作 n t [d]，每个词元\n单独归一化"}},
    [PICTURE_INSTANCE] = {{"Instance norm", "实例归一化 IN"},
                          {"style transfer, GANs,\nimage generation", "风格迁移、GAN、\n图像生成"}},
    [PICTURE_GROUP] = {{"Group norm", "组归一化 GN"},
                       {"detection, segmentation,\nsmall batches; diffusion\nmodels",
                        "检测、分割等小批次\n训练；扩散模型"}},
    [PICTURE_CHANNELS_FIRST] = {{"Layer norm, channels", "通道维层归一化"},
                                {"ConvNeXt; with tokens as\nspace, Transformers",
                                 "ConvNeXt；把空间看作\n词元，即 Transformer"}},
    [PICTURE_RMS] = {{"RMS norm", "均方根归一化 RMS"},
                     {"language models (Llama);\nthe mean is fixed at 0", "大语言模型（Llama）；\n均值固定为 0"}},
};

const char *picture_name(picture_layer which, picture_language language) { return LAYERS[which].name[language]; }

const char *picture_used_in(picture_layer which, picture_language language) { return LAYERS[which].used_in[language]; }

/* Appends, with `between` if something is there already. */
static void append(char text[PICTURE_TEXT], const char *between, const char *word) {
  size_t length = strlen(text);
  snprintf(text + length, PICTURE_TEXT - length, "%s%s", length > 0 ? between : "", word);
}

void picture_one_mean_per(const norma_layer *layer, picture_language language, char text[PICTURE_TEXT]) {
  static const struct {
    char axis;
    const char *word[2];
  } words[] = {
      {'n', {"sample", "一个样本"}},
      {'c', {"channel", "一个通道"}},
      {'g', {"group", "一个组"}},
      {'h', {"position", "一个位置"}},
  };
  text[0] = '\0';
  for (int i = 0; i < layer->axis_count; i++) {
    if (layer->axes[i].bits & NORMA_SHARE) continue;
    for (size_t k = 0; k < sizeof words / sizeof words[0]; k++) {
      if (layer->axes[i].name[0] == words[k].axis) {
        append(text, language == PICTURE_ZH ? "的" : " and ", words[k].word[language]);
      }
    }
  }
}

void picture_product(const norma_layer *layer, unsigned bit, bool has, char text[PICTURE_TEXT]) {
  text[0] = '\0';
  for (int i = 0; i < layer->axis_count; i++) {
    if (((layer->axes[i].bits & bit) != 0) != has) continue;
    char name[2] = {(char)toupper((unsigned char)layer->axes[i].name[0]), '\0'};
    append(text, " × ", name);
  }
}

char *picture_describe(const picture *p) {
  const picture_words *words = picture_words_in(p->language);
  char *text = NULL, product[PICTURE_TEXT], pattern[256] = "";
  size_t size;
  FILE *out = open_memstream(&text, &size);
  if (!out) return NULL;
  fprintf(out, "%s\nN = %d, C = %d, H,W = %d × %d, G,K = %d × %d\n", words->question, PICTURE_N, PICTURE_C, PICTURE_H,
          PICTURE_W, PICTURE_GROUPS, PICTURE_C / PICTURE_GROUPS);
  for (int i = 0; i < p->count; i++) {
    const norma_layer *layer = &p->panels[i].layer;
    norma_layer_format(layer, pattern, sizeof pattern, NULL, 0, NULL);
    fprintf(out, "%s\n  %s: %s\n", picture_name(p->panels[i].which, p->language), words->rows[0], pattern);
    picture_one_mean_per(layer, p->language, product);
    fprintf(out, "  %s: %lld, %s: %s\n", words->rows[1], (long long)norma_layer_units(layer), words->rows[2], product);
    fprintf(out, "  %s: %lld\n", words->rows[3], (long long)norma_layer_unit_elements(layer));
    picture_product(layer, NORMA_AFFINE, true, product);
    fprintf(out, "  %s: %s\n  %s: ", words->rows[4], product, words->rows[5]);
    for (const char *at = picture_used_in(p->panels[i].which, p->language); *at; at++) {
      if (*at != '\n') fputc(*at, out);
      if (*at == '\n' && p->language == PICTURE_EN) fputc(' ', out);
    }
    fputc('\n', out);
  }
  fprintf(out, "%s\n", words->method);
  return fclose(out) == 0 ? text : NULL;
}
