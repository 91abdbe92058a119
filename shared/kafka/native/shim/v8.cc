// Functions of V8 and Node that the addon needs and Bun 1.4.5 does not export. Each is built on what Bun has: the equivalent JavaScript function,
// or a related C++ one. The build fails when a symbol is missing beyond these.
#include <node.h>
#include <node_buffer.h>
#include <v8.h>

#include <cmath>
#include <cstdlib>
#include <cstring>

namespace {

using v8::Context;
using v8::Function;
using v8::Global;
using v8::Isolate;
using v8::Local;
using v8::Maybe;
using v8::MaybeLocal;
using v8::Object;
using v8::String;
using v8::Value;

// ASSUMES that a member function's `this` is a handle's slot, and that a Local is only a pointer to one; its size is checked when compiled.
template <class T>
Local<T> LocalOf(const T* self) {
  Local<T> local;
  static_assert(sizeof local == sizeof self, "a Local is one pointer");
  std::memcpy(&local, &self, sizeof self);
  return local;
}

// A function of a global object, looked up once.
class Builtin {
 public:
  Builtin(const char* object, const char* name) : object_(object), name_(name) {}

  MaybeLocal<Value> Call(Local<Value>* arguments, int count) {
    Isolate* isolate = Isolate::GetCurrent();
    Local<Context> context = isolate->GetCurrentContext();
    if (function_.IsEmpty()) {
      Local<Value> owner = context->Global()->Get(context, Text(isolate, object_)).ToLocalChecked();
      Local<Value> found = owner.As<Object>()->Get(context, Text(isolate, name_)).ToLocalChecked();
      function_.Reset(isolate, found.As<Function>());
    }
    return function_.Get(isolate)->Call(context, context->Global(), count, arguments);
  }

 private:
  static Local<String> Text(Isolate* isolate, const char* text) {
    return String::NewFromUtf8(isolate, text).ToLocalChecked();
  }

  const char* object_;
  const char* name_;
  Global<Function> function_;
};

Builtin object_keys("Object", "keys");
Builtin object_prototype("Object", "getPrototypeOf");
Builtin reflect_has("Reflect", "has");
Builtin buffer_alloc("Buffer", "allocUnsafeSlow");

}  // namespace

// An uninitialised Buffer with its own memory; shim/packed.cc uses it too.
MaybeLocal<Object> NewBuffer(Isolate* isolate, size_t length) {
  Local<Value> arguments[1] = {v8::Number::New(isolate, static_cast<double>(length))};
  Local<Value> made;
  if (!buffer_alloc.Call(arguments, 1).ToLocal(&made)) return MaybeLocal<Object>();
  return made.As<Object>();
}

namespace {

// Buffers from C++ are copies: Bun has no buffers over foreign memory here, and these records are small.
MaybeLocal<Object> BufferCopy(Isolate* isolate, const char* data, size_t length) {
  Local<Object> buffer;
  if (!NewBuffer(isolate, length).ToLocal(&buffer)) return MaybeLocal<Object>();
  if (length > 0) std::memcpy(node::Buffer::Data(buffer), data, length);
  return buffer;
}

}  // namespace

namespace v8 {

// Returns the own enumerable names, which is what the addon needs of configuration objects and headers.
MaybeLocal<Array> Object::GetOwnPropertyNames(Local<Context>) {
  Local<Value> arguments[1] = {LocalOf(this)};
  Local<Value> names;
  if (!object_keys.Call(arguments, 1).ToLocal(&names)) return MaybeLocal<Array>();
  return names.As<Array>();
}

Maybe<bool> Object::Has(Local<Context>, Local<Value> key) {
  Local<Value> arguments[2] = {LocalOf(this), key};
  Local<Value> has;
  if (!reflect_has.Call(arguments, 2).ToLocal(&has)) return Nothing<bool>();
  return Just(has->IsTrue());
}

// ECMAScript's ToBoolean, except for BigInt 0n, which the addon never asks about.
bool Value::BooleanValue(Isolate*) const {
  if (IsBoolean()) return IsTrue();
  if (IsNullOrUndefined()) return false;
  if (IsNumber()) {
    double number = LocalOf(this).As<Number>()->Value();
    return !std::isnan(number) && number != 0;
  }
  if (IsString()) return LocalOf(this).As<String>()->Length() > 0;
  return true;
}

Maybe<int32_t> Value::Int32Value(Local<Context> context) const {
  if (IsInt32()) return Just(LocalOf(this).As<Int32>()->Value());
  Local<Int32> converted;
  if (!ToInt32(context).ToLocal(&converted)) return Nothing<int32_t>();
  return Just(converted->Value());
}

Maybe<int64_t> Value::IntegerValue(Local<Context> context) const {
  if (IsNumber()) {
    double number = LocalOf(this).As<Number>()->Value();
    // Beyond the range of int64_t the cast would be undefined; V8 saturates.
    if (std::isnan(number)) return Just<int64_t>(0);
    if (number >= 9223372036854775808.0) return Just<int64_t>(INT64_MAX);
    if (number < -9223372036854775808.0) return Just<int64_t>(INT64_MIN);
    return Just(static_cast<int64_t>(number));
  }
  Local<Integer> converted;
  if (!ToInteger(context).ToLocal(&converted)) return Nothing<int64_t>();
  return Just(converted->Value());
}

// Only called for objects; the addon does not use wrappers of primitives.
MaybeLocal<Object> Value::ToObject(Local<Context>) const {
  if (!IsObject()) return MaybeLocal<Object>();
  return LocalOf(this).As<Object>();
}

bool Value::IsRegExp() const {
  if (!IsObject()) return false;
  Isolate* isolate = Isolate::GetCurrent();
  Local<Context> context = isolate->GetCurrentContext();
  static Global<Object> prototype;
  if (prototype.IsEmpty()) {
    Local<Value> constructor =
        context->Global()->Get(context, String::NewFromUtf8(isolate, "RegExp").ToLocalChecked()).ToLocalChecked();
    Local<Value> found =
        constructor.As<Object>()->Get(context, String::NewFromUtf8(isolate, "prototype").ToLocalChecked()).ToLocalChecked();
    prototype.Reset(isolate, found.As<Object>());
  }
  Local<Value> arguments[1] = {LocalOf(this)};
  Local<Value> own;
  return object_prototype.Call(arguments, 1).ToLocal(&own) && own->StrictEquals(prototype.Get(isolate));
}

Local<String> RegExp::GetSource() const {
  Isolate* isolate = Isolate::GetCurrent();
  Local<Context> context = isolate->GetCurrentContext();
  Local<String> name = String::NewFromUtf8(isolate, "source").ToLocalChecked();
  return LocalOf(this).As<Object>()->Get(context, name).ToLocalChecked().As<String>();
}

}  // namespace v8

namespace node {
namespace Buffer {

bool HasInstance(Local<Value> value) { return value->IsUint8Array(); }

char* Data(Local<Object> object) {
  Local<v8::ArrayBufferView> view = object.As<v8::ArrayBufferView>();
  return static_cast<char*>(view->Buffer()->GetBackingStore()->Data()) + view->ByteOffset();
}
char* Data(Local<Value> value) { return Data(value.As<Object>()); }

size_t Length(Local<Object> object) { return object.As<v8::ArrayBufferView>()->ByteLength(); }
size_t Length(Local<Value> value) { return Length(value.As<Object>()); }

// Takes ownership of `data`, which comes from malloc by Node's contract.
MaybeLocal<Object> New(Isolate* isolate, char* data, size_t length) {
  MaybeLocal<Object> buffer = BufferCopy(isolate, data, length);
  std::free(data);
  return buffer;
}

}  // namespace Buffer

MaybeLocal<Value> TryEncode(Isolate* isolate, const char* bytes, size_t length, enum encoding encoding) {
  if (encoding == BUFFER) {
    Local<Object> buffer;
    if (!BufferCopy(isolate, bytes, length).ToLocal(&buffer)) return MaybeLocal<Value>();
    return buffer.As<Value>();
  }
  Local<String> text;
  if (!String::NewFromUtf8(isolate, bytes, v8::NewStringType::kNormal, static_cast<int>(length)).ToLocal(&text))
    return MaybeLocal<Value>();
  return text.As<Value>();
}

}  // namespace node
