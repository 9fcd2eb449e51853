// Reads one program (buffers, launches, products) from standard input, runs it, writes the buffers it may have changed to
// standard output. The crate's `wire` module writes and reads the other end; the file that includes this one defines
// `kernel_host::entries`.
#pragma once

#include <sys/resource.h>

#include <tuple>
#include <utility>

namespace kernel_host {

// ---- the request -----------------------------------------------------------------------------------------------------------

enum class Element : uint32_t { f32 = 0, f16 = 1, bf16 = 2, u32 = 3, i64 = 4 };
enum class Role : uint32_t { input = 0, in_out = 1, output = 2, scratch = 3 };
enum class Tag : uint32_t { buffer = 0, pointers = 1, i32 = 2, i64 = 3, u64 = 4, f32 = 5 };
enum class StepKind : uint32_t { launch = 0, product = 1, zero = 2 };

static inline size_t bytes_of(Element element) { return element == Element::i64 ? 8 : element == Element::f16 || element == Element::bf16 ? 2 : 4; }
static inline const char *name_of(Element element) {
  static const char *names[] = {"f32", "f16", "bf16", "unsigned", "long long"};
  return names[(uint32_t)element];
}

static inline void take(void *into, size_t size) {
  if (size && std::fread(into, 1, size, stdin) != size) fail("the request ends early");
}
template <typename T>
static inline T take() {
  T value;
  take(&value, sizeof value);
  return value;
}

// ---- buffers ---------------------------------------------------------------------------------------------------------------

// Every buffer is an allocation of its own between two guards, which the address sanitizer forbids to the kernels and which
// are also compared with their pattern afterwards. It begins at a multiple of 16 bytes and of no more: what a kernel may rely
// on (`cuda::lower::ALIGNMENT`).
constexpr size_t kPage = 4096, kGuard = kPage + 16;
constexpr unsigned char kCanary = 0xa5;

struct Memory {
  Element element;
  Role role;
  size_t len, size;
  unsigned char *whole, *data, *original;
};

static Memory *memories = nullptr;
static uint32_t memory_count = 0;

static void allocate(Memory &memory) {
  const size_t total = (2 * kGuard + memory.size + kPage - 1) / kPage * kPage;
  memory.whole = (unsigned char *)std::aligned_alloc(kPage, total);
  if (!memory.whole) fail("no memory for a buffer of %zu bytes", memory.size);
  memory.data = memory.whole + kGuard;
  std::memset(memory.whole, kCanary, total);
  std::memset(memory.data, kPoison, memory.size);
}

static void guard(Memory &memory) {
  __asan_poison_memory_region(memory.whole, kGuard);
  __asan_poison_memory_region(memory.data + memory.size, kGuard);
}

static void unguard(const Memory &memory) { __asan_unpoison_memory_region(memory.whole, 2 * kGuard + memory.size); }

static void take_buffer(Memory &memory) {
  memory.element = take<Element>();
  memory.role = take<Role>();
  memory.len = take<uint64_t>();
  memory.size = memory.len * bytes_of(memory.element);
  memory.original = nullptr;
  allocate(memory);
  if (take<uint32_t>()) take(memory.data, memory.size);
  if (memory.role == Role::input) {
    memory.original = (unsigned char *)std::malloc(memory.size + 1);
    std::memcpy(memory.original, memory.data, memory.size);
  }
  guard(memory);
}

// Whether guards and inputs are as they were.
static void check_buffer(uint32_t index) {
  const Memory &memory = memories[index];
  unguard(memory);
  for (size_t i = 0; i < kGuard; ++i) {
    if (memory.whole[i] != kCanary) fail("wrote %zu bytes before buffer %u", kGuard - i, index);
    if (memory.data[memory.size + i] != kCanary) fail("wrote %zu bytes past the end of buffer %u", i, index);
  }
  if (memory.original && std::memcmp(memory.original, memory.data, memory.size) != 0) fail("changed buffer %u, an input", index);
  guard(memories[index]);
}

static Memory &memory_at(uint32_t index) {
  if (index >= memory_count) fail("buffer %u of %u", index, memory_count);
  return memories[index];
}

// ---- arguments -------------------------------------------------------------------------------------------------------------

struct Argument {
  Tag tag;
  uint32_t count;
  uint32_t *buffers;
  uint64_t bits;
};

struct Launch {
  dim3 grid, block;
  uint32_t shared, count;
  Argument *arguments;
};

static inline const char *found(const Argument &argument, char (&text)[96]) {
  static const char *scalars[] = {"", "", "int", "long long", "unsigned long long", "float"};
  if (argument.tag == Tag::buffer) std::snprintf(text, sizeof text, "a buffer of %s", name_of(memory_at(argument.buffers[0]).element));
  else if (argument.tag == Tag::pointers) std::snprintf(text, sizeof text, "a table of %u buffers", argument.count);
  else std::snprintf(text, sizeof text, "%s", scalars[(uint32_t)argument.tag]);
  return text;
}

[[noreturn]] static void mismatch(const Argument &argument, int index, const char *expected) {
  char text[96];
  fail("argument %d: expected %s, found %s", index, expected, found(argument, text));
}

template <typename T> struct ElementOf;
template <> struct ElementOf<float> { static constexpr Element value = Element::f32; };
template <> struct ElementOf<f16> { static constexpr Element value = Element::f16; };
template <> struct ElementOf<bf16> { static constexpr Element value = Element::bf16; };
template <> struct ElementOf<unsigned> { static constexpr Element value = Element::u32; };
template <> struct ElementOf<long long> { static constexpr Element value = Element::i64; };

// The address of a buffer as a `T *`, where its elements are so and the kernel may write what it may.
template <typename T>
static T *address(const Argument &argument, uint32_t buffer, int index) {
  constexpr Element element = ElementOf<std::remove_const_t<T>>::value;
  Memory &memory = memory_at(buffer);
  if (memory.element != element) fail("argument %d: expected a buffer of %s, found buffer %u of %s", index, name_of(element), buffer, name_of(memory.element));
  if (!std::is_const_v<T> && memory.role == Role::input) fail("argument %d: the kernel takes a pointer it may write through, found buffer %u, an input", index, buffer);
  (void)argument;
  return (T *)memory.data;
}

template <typename P> struct Unpack;
template <typename P, Tag kTag> struct Scalar {
  static P get(const Argument &argument, int index, const char *expected) {
    if (argument.tag != kTag) mismatch(argument, index, expected);
    P value;
    std::memcpy(&value, &argument.bits, sizeof value);
    return value;
  }
};
template <> struct Unpack<int> { static int get(const Argument &a, int i) { return Scalar<int, Tag::i32>::get(a, i, "int"); } };
template <> struct Unpack<long long> { static long long get(const Argument &a, int i) { return Scalar<long long, Tag::i64>::get(a, i, "long long"); } };
template <> struct Unpack<unsigned long long> { static unsigned long long get(const Argument &a, int i) { return Scalar<unsigned long long, Tag::u64>::get(a, i, "unsigned long long"); } };
template <> struct Unpack<float> { static float get(const Argument &a, int i) { return Scalar<float, Tag::f32>::get(a, i, "float"); } };
template <typename T> struct Unpack<T *> {
  static T *get(const Argument &argument, int index) {
    if (argument.tag != Tag::buffer) mismatch(argument, index, "a buffer");
    return address<T>(argument, argument.buffers[0], index);
  }
};
template <typename T> struct Table {
  static T *const *get(const Argument &argument, int index) {
    if (argument.tag != Tag::pointers) mismatch(argument, index, "a table of buffers");
    T **table = (T **)std::malloc(argument.count * sizeof(T *));
    for (uint32_t i = 0; i < argument.count; ++i) table[i] = address<T>(argument, argument.buffers[i], index);
    return table;
  }
};
template <typename T> struct Unpack<T *const *> : Table<T> {};

template <typename... P, size_t... I>
static void call_with(void (*kernel)(P...), const Launch &launch, long long bound, std::index_sequence<I...>) {
  if (launch.count != sizeof...(P)) fail("takes %zu arguments, found %u", sizeof...(P), launch.count);
  struct Call { void (*kernel)(P...); std::tuple<P...> arguments; };
  Call call{kernel, {Unpack<P>::get(launch.arguments[I], (int)I)...}};
  auto run = [](void *erased) {
    const Call &call = *(const Call *)erased;
    call.kernel(std::get<I>(call.arguments)...);
  };
  kernel_host::launch(launch.grid, launch.block, launch.shared, bound, run, &call);
}

template <typename... P>
static void call(void (*kernel)(P...), const Launch &launch, long long bound) {
  call_with(kernel, launch, bound, std::index_sequence_for<P...>{});
}

struct Entry { const char *name; void (*run)(const Launch &); };
#define KERNEL_HOST_ENTRY(name, bound) {#name, [](const kernel_host::Launch &launch) { kernel_host::call(name, launch, bound); }}
extern const Entry entries[];
extern const size_t entry_count;

// ---- steps -----------------------------------------------------------------------------------------------------------------

static void take_argument(Argument &argument) {
  argument.tag = take<Tag>();
  argument.count = argument.tag == Tag::buffer ? 1 : argument.tag == Tag::pointers ? take<uint32_t>() : 0;
  argument.bits = argument.count || argument.tag == Tag::pointers ? 0 : take<uint64_t>();
  argument.buffers = (uint32_t *)std::malloc((argument.count + 1) * sizeof(uint32_t));
  take(argument.buffers, argument.count * sizeof(uint32_t));
}

static void run_launch() {
  char name[256] = {};
  const uint32_t length = take<uint32_t>();
  if (length >= sizeof name) fail("a kernel's name of %u bytes", length);
  take(name, length);
  kernel_name = name;
  Launch launch;
  launch.grid = take<dim3>();
  launch.block = take<dim3>();
  launch.shared = take<uint32_t>();
  launch.count = take<uint32_t>();
  launch.arguments = (Argument *)std::malloc((launch.count + 1) * sizeof(Argument));
  for (uint32_t i = 0; i < launch.count; ++i) take_argument(launch.arguments[i]);
  size_t entry = 0;
  while (entry < entry_count && std::strcmp(entries[entry].name, name) != 0) ++entry;
  if (entry == entry_count) fail("is not among the file's kernels");
  entries[entry].run(launch);
  for (uint32_t i = 0; i < memory_count; ++i) check_buffer(i);
  kernel_name = "no kernel";
}

struct Matrix {
  uint32_t buffer, transposed;
  uint64_t offset, row_stride, batch_stride;
};

static float *element_f32(Memory &memory, size_t at) { return (float *)memory.data + at; }

static float read(Memory &memory, size_t at) {
  if (memory.element == Element::f32) return *element_f32(memory, at);
  if (memory.element == Element::f16) return to_float(((f16 *)memory.data)[at]);
  if (memory.element == Element::bf16) return to_float(((bf16 *)memory.data)[at]);
  fail("a product of %s", name_of(memory.element));
}

static void write(Memory &memory, size_t at, float value) {
  if (memory.element == Element::f32) *element_f32(memory, at) = value;
  else if (memory.element == Element::f16) from_float(value, ((f16 *)memory.data)[at]);
  else if (memory.element == Element::bf16) from_float(value, ((bf16 *)memory.data)[at]);
  else fail("a product into %s", name_of(memory.element));
}

static size_t place_in(const Matrix &matrix, size_t batch, size_t row, size_t column) {
  const size_t line = matrix.transposed ? column : row, along = matrix.transposed ? row : column;
  return matrix.offset + batch * matrix.batch_stride + line * matrix.row_stride + along;
}

static void run_product() {
  kernel_name = "of a matrix product";
  const uint64_t m = take<uint64_t>(), n = take<uint64_t>(), k = take<uint64_t>(), batch = take<uint64_t>();
  const Matrix a = take<Matrix>(), b = take<Matrix>(), c = take<Matrix>();
  const uint32_t accumulate = take<uint32_t>();
  Memory &left = memory_at(a.buffer), &right = memory_at(b.buffer), &into = memory_at(c.buffer);
  if (into.role == Role::input) fail("writes buffer %u, an input", c.buffer);
  if (c.transposed) fail("writes a transposed matrix");
  if (left.element != right.element) fail("multiplies %s with %s", name_of(left.element), name_of(right.element));
  for (uint64_t i = 0; i < batch; ++i)
    for (uint64_t row = 0; row < m; ++row)
      for (uint64_t column = 0; column < n; ++column) {
        const size_t at = place_in(c, i, row, column);
        double sum = accumulate ? read(into, at) : 0.0;
        for (uint64_t inner = 0; inner < k; ++inner)
          sum += (double)read(left, place_in(a, i, row, inner)) * (double)read(right, place_in(b, i, inner, column));
        write(into, at, (float)sum);
      }
  for (uint32_t i = 0; i < memory_count; ++i) check_buffer(i);
  kernel_name = "no kernel";
}

static void run_zero() {
  Memory &memory = memory_at(take<uint32_t>());
  if (memory.role == Role::input) fail("zeroes an input");
  std::memset(memory.data, 0, memory.size);
}

static void run_step() {
  switch (take<StepKind>()) {
    case StepKind::launch: return run_launch();
    case StepKind::product: return run_product();
    case StepKind::zero: return run_zero();
  }
  fail("a step of no known kind");
}

static void give_buffers() {
  for (uint32_t i = 0; i < memory_count; ++i)
    if (memories[i].role != Role::input) std::fwrite(memories[i].data, 1, memories[i].size, stdout);
  std::fflush(stdout);
}

// A kernel that never ends is ended by the limit on its own time on a processor, however busy the machine is.
static void limit_time(uint32_t seconds) {
  const rlimit limit{seconds, seconds + 1};
  setrlimit(RLIMIT_CPU, &limit);
}

static int run() {
  order = take<Order>();
  order_state = take<uint64_t>();
  limit_time(take<uint32_t>());
  memory_count = take<uint32_t>();
  memories = (Memory *)std::calloc(memory_count + 1, sizeof(Memory));
  for (uint32_t i = 0; i < memory_count; ++i) take_buffer(memories[i]);
  for (uint32_t steps = take<uint32_t>(); steps; --steps) run_step();
  give_buffers();
  return 0;
}

// What the sanitizers say of place is the source's line; this adds kernel, block and thread.
static void on_death() {
  std::fprintf(stderr, "kernel-host: ");
  place(stderr);
  std::fprintf(stderr, ": stopped by a sanitizer\n");
  std::fflush(stderr);
}

}  // namespace kernel_host

extern "C" void __sanitizer_set_death_callback(void (*callback)());
// Where the runtime of the sanitizer for undefined behaviour is a library of its own, it calls this instead.
extern "C" void __ubsan_on_report() { kernel_host::on_death(); }

int main() {
#ifdef KERNEL_HOST_ASAN
  __sanitizer_set_death_callback(kernel_host::on_death);
#endif
  return kernel_host::run();
}
