// Persistent handles that can be released.
//
// Bun 1.4.5 never frees what `v8::api_internal::GlobalizeReference` creates: the slot stays allocated and its value rooted. Every delivery
// report with an opaque and every asynchronous call holds one, so memory would grow without bound. Here, values are rooted in a private JavaScript
// array, and slots are reused after they were disposed of.
//
// ASSUMES two things that hold for Bun 1.4.5 and are checked when the addon is loaded (shared/kafka/native/check.ts): a handle points to an
// object of 16 bytes (map, contents), and JavaScriptCore does not move objects.
#include <nan.h>
#include <node.h>
#include <v8.h>

#include <cstdint>
#include <cstring>
#include <deque>
#include <vector>

namespace {

// V8's tagging: the lowest bit tells a heap object from a small integer.
constexpr uintptr_t kHeapObjectTag = 1;

struct HeapObject {
  uintptr_t map;
  uintptr_t contents;
};

struct Slot {
  // What a handle points to. First, since a handle's address is the slot's.
  uintptr_t tagged;
  // Bun's handle scopes reuse the object behind a handle, so that a persistent one needs a copy of it.
  HeapObject object;
  uint32_t index;
  bool rooted;
  void* weak_parameter;
};

// A disposed slot is not reused before this many others: a Local of it may still be read in the same callback.
constexpr size_t kQuarantineSlots = 4096;

std::deque<Slot*> quarantine;
// Indices of the root array to clear. Slots may be disposed of where JavaScript must not be called, so the array is cleared at the next creation.
std::vector<uint32_t> to_unroot;
uint32_t slots_made = 0;
uint32_t slots_live = 0;

// Where the array is; a property of the global object keeps it alive.
Slot* roots_slot = nullptr;

v8::Local<v8::Value> AtSlot(uintptr_t* slot) {
  v8::Local<v8::Value> local;
  std::memcpy(&local, &slot, sizeof slot);
  return local;
}

void CopyObject(uintptr_t tagged, Slot* slot) {
  std::memcpy(&slot->object, reinterpret_cast<void*>(tagged - kHeapObjectTag), sizeof slot->object);
  slot->tagged = reinterpret_cast<uintptr_t>(&slot->object) + kHeapObjectTag;
}

v8::Local<v8::Object> Roots(v8::Isolate* isolate, v8::Local<v8::Context> context) {
  if (roots_slot == nullptr) {
    v8::Local<v8::Array> array = v8::Array::New(isolate, 0);
    v8::Local<v8::String> name = v8::String::NewFromUtf8(isolate, "__kafkatraceNativeRoots").ToLocalChecked();
    context->Global()->Set(context, name, array).Check();
    uintptr_t* handle;
    std::memcpy(&handle, &array, sizeof handle);
    roots_slot = new Slot();
    CopyObject(*handle, roots_slot);
  }
  return AtSlot(&roots_slot->tagged).As<v8::Object>();
}

}  // namespace

namespace v8 {
namespace api_internal {

internal::Address* GlobalizeReference(internal::Isolate* i, internal::Address value) {
  Isolate* isolate = reinterpret_cast<Isolate*>(i);
  HandleScope scope(isolate);
  Local<Context> context = isolate->GetCurrentContext();
  Local<Object> roots = Roots(isolate, context);
  for (uint32_t index : to_unroot) roots->Set(context, index, Undefined(isolate)).Check();
  to_unroot.clear();

  Slot* slot;
  if (quarantine.size() > kQuarantineSlots) {
    slot = quarantine.front();
    quarantine.pop_front();
  } else {
    slot = new Slot();
    slot->index = slots_made++;
  }
  slots_live++;
  slot->weak_parameter = nullptr;
  uintptr_t tagged = value;
  Local<Value> local = AtSlot(&tagged);
  slot->rooted = (value & kHeapObjectTag) != 0 && !local->IsNullOrUndefined() && !local->IsBoolean();
  if (slot->rooted) {
    CopyObject(value, slot);
    roots->Set(context, slot->index, local).Check();
  } else {
    slot->tagged = value;
  }
  return &slot->tagged;
}

void DisposeGlobal(internal::Address* location) {
  if (location == nullptr) return;
  Slot* slot = reinterpret_cast<Slot*>(location);
  if (slot->rooted) to_unroot.push_back(slot->index);
  slots_live--;
  quarantine.push_back(slot);
}

// The addon's objects make their own handle weak to be told when they are collected. Here they stay rooted: a process opens a few clients in
// its life, and closes them itself.
void MakeWeak(internal::Address* location, void* data, WeakCallbackInfo<void>::Callback, WeakCallbackType) {
  reinterpret_cast<Slot*>(location)->weak_parameter = data;
}

void* ClearWeak(internal::Address* location) {
  if (location == nullptr) return nullptr;
  Slot* slot = reinterpret_cast<Slot*>(location);
  void* data = slot->weak_parameter;
  slot->weak_parameter = nullptr;
  return data;
}

}  // namespace api_internal
}  // namespace v8

// ---- the check at load

namespace {

std::vector<Nan::Persistent<v8::Value>*> held;

// hold(value) → its number
NAN_METHOD(Hold) {
  held.push_back(new Nan::Persistent<v8::Value>(info[0]));
  info.GetReturnValue().Set(Nan::New<v8::Number>(static_cast<double>(held.size() - 1)));
}

// read(number) → the value
NAN_METHOD(Read) {
  size_t number = static_cast<size_t>(Nan::To<int32_t>(info[0]).FromJust());
  if (number >= held.size() || held[number] == nullptr) return Nan::ThrowError("nothing is held under this number");
  info.GetReturnValue().Set(Nan::New(*held[number]));
}

// release(): releases all held values
NAN_METHOD(Release) {
  for (Nan::Persistent<v8::Value>* one : held) {
    one->Reset();
    delete one;
  }
  held.clear();
}

// counts() → {made, live}
NAN_METHOD(Counts) {
  v8::Local<v8::Object> counts = Nan::New<v8::Object>();
  Nan::Set(counts, Nan::New("made").ToLocalChecked(), Nan::New<v8::Number>(static_cast<double>(slots_made)));
  Nan::Set(counts, Nan::New("live").ToLocalChecked(), Nan::New<v8::Number>(static_cast<double>(slots_live)));
  info.GetReturnValue().Set(counts);
}

}  // namespace

void ExportHandleCheck(v8::Local<v8::Object> exports) {
  v8::Local<v8::Object> handles = Nan::New<v8::Object>();
  Nan::SetMethod(handles, "hold", Hold);
  Nan::SetMethod(handles, "read", Read);
  Nan::SetMethod(handles, "release", Release);
  Nan::SetMethod(handles, "counts", Counts);
  Nan::Set(exports, Nan::New("handles").ToLocalChecked(), handles);
}
