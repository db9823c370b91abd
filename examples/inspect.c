/*
 * inspect FILE [LAYER]: what is in a .npy, .safetensors or raw file, without reading it.
 *
 * Opens a manager with one dimension as large as the file, loads it and prints its layers; of
 * LAYER the first values and, if they are F32, their sum. Only what is looked at comes into memory.
 *
 *   cc inspect.c $(pkg-config --cflags --libs memmgr) -o inspect
 */
#include <inttypes.h>
#include <memmgr.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static memmgr_error error = MEMMGR_ERROR_INIT;

/* The library never prints or exits; this program does both. */
static void require(memmgr_status status)
{
    if (status == MEMMGR_OK) return;
    fprintf(stderr, "inspect: %s\n", error.message);
    exit(1);
}

/* Bytes of the file; 0 if it cannot be read, so that the load says why. */
static uint64_t size_of(const char *path)
{
    FILE *file = fopen(path, "rb");
    int64_t size = 0;
    if (file == NULL) return 0;
#ifdef _WIN32
    if (_fseeki64(file, 0, SEEK_END) == 0) size = _ftelli64(file);
#else
    if (fseek(file, 0, SEEK_END) == 0) size = ftell(file);
#endif
    fclose(file);
    return size > 0 && size < INT64_MAX ? (uint64_t)size : 0;
}

static void print_layer(const memmgr_layer *layer)
{
    char shape[MEMMGR_RANK_MAX * 22 + 3] = "[";
    size_t end = 1;
    uint32_t axis;
    for (axis = 0; axis < layer->rank; axis++) {
        end += (size_t)snprintf(shape + end, sizeof shape - end, "%s%" PRIu64,
                                axis > 0 ? ", " : "", layer->shape[axis]);
    }
    strcpy(shape + end, "]");
    printf("%-48s %-8s %-16s %12" PRIu64 " %12" PRIu64 " %6" PRIu32 "\n", layer->name,
           memmgr_dtype_name(layer->dtype), shape, layer->offset, layer->length,
           layer->alignment);
}

/* The first bytes; the first values and the sum, if they are F32. */
static void print_values(const memmgr_layer *layer, const memmgr_view *view)
{
    const unsigned char *bytes = (const unsigned char *)view->data;
    const size_t count = view->length / sizeof(float);
    double sum = 0;
    size_t index;
    printf("\n%s:", layer->name);
    if (layer->dtype != MEMMGR_DTYPE_F32) {
        for (index = 0; index < view->length && index < 16; index++) printf(" %02x", bytes[index]);
        printf("%s\n", view->length > 16 ? " ..." : "");
        return;
    }
    for (index = 0; index < count; index++) {
        float value; /* copied, since a file may misalign its layers: see layer->alignment */
        memcpy(&value, bytes + index * sizeof value, sizeof value);
        if (index < 5) printf(" %g", value);
        sum += value;
    }
    printf("%s, sum %g\n", count > 5 ? " ..." : "", sum);
}

int main(int argc, char **argv)
{
    memmgr_manager_options options = MEMMGR_MANAGER_OPTIONS_INIT;
    memmgr_dimension_stats stats = MEMMGR_DIMENSION_STATS_INIT;
    memmgr_layer layer = MEMMGR_LAYER_INIT;
    memmgr_view view = MEMMGR_VIEW_INIT;
    memmgr_manager *manager;
    uint32_t index;
    if (argc < 2 || argc > 3) {
        fprintf(stderr, "usage: inspect FILE [LAYER]\n");
        return 2;
    }

    options.dimension_count = 1;
    options.capacity = size_of(argv[1]);
    require(memmgr_manager_open(&options, &manager, &error));
    require(memmgr_dimension_load(manager, 0, argv[1], NULL, &error));
    require(memmgr_dimension_stats_get(manager, 0, &stats, &error));

    printf("%s: %" PRIu64 " bytes, %" PRIu32 " layers\n\n", argv[1], stats.file_size,
           stats.layer_count);
    printf("%-48s %-8s %-16s %12s %12s %6s\n", "name", "dtype", "shape", "offset", "bytes",
           "align");
    for (index = 0; index < stats.layer_count; index++) {
        require(memmgr_layer_at(manager, 0, index, &layer, &error));
        print_layer(&layer);
    }

    if (argc == 3) {
        require(memmgr_layer_acquire(manager, 0, argv[2], &layer, &view, &error));
        print_values(&layer, &view);
        require(memmgr_view_release(manager, &view, &error));
    }
    require(memmgr_manager_close(manager, MEMMGR_ON_VIEWS_REFUSE, 0, &error));
    return 0;
}
